"""Answers and events in vLLM's shape. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Shape:
    """How one request is answered: `chat` or text completion, under which id and model name."""

    chat: bool
    request_id: str
    model: str

    def whole(
        self, tokens: Sequence[str], finish: str, prompt_tokens: int, params: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        text = "".join(tokens)
        content = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        return {
            **self._head("chat.completion" if self.chat else "text_completion"),
            "choices": [{"index": 0, **content, "logprobs": None, "finish_reason": finish}],
            "usage": usage(prompt_tokens, len(tokens)),
            "kv_transfer_params": params,
        }

    def role_event(self) -> bytes:
        return self._chunk(
            [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]
        )

    def token_event(self, tokens: Sequence[str], finish: str | None) -> bytes:
        text = "".join(tokens)
        content = {"delta": {"content": text}} if self.chat else {"text": text}
        return self._chunk([{"index": 0, **content, "logprobs": None, "finish_reason": finish}])

    def usage_event(self, prompt_tokens: int, output_tokens: int) -> bytes:
        return self._chunk([], {"usage": usage(prompt_tokens, output_tokens)})

    def _chunk(self, choices: list[dict[str, Any]], more: Mapping[str, Any] | None = None) -> bytes:
        head = self._head("chat.completion.chunk" if self.chat else "text_completion")
        return event({**head, "choices": choices, **(more or {})})

    def _head(self, kind: str) -> dict[str, Any]:
        prefix = "chatcmpl" if self.chat else "cmpl"
        return {
            "id": f"{prefix}-{self.request_id}",
            "object": kind,
            "created": 1795340313,
            "model": self.model,
        }


def usage(prompt_tokens: int, output_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + output_tokens,
        "completion_tokens": output_tokens,
    }


def event(payload: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(payload, separators=(",", ":")).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def error(message: str, kind: str, code: int | str) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


INTERNAL_ERROR = error("Internal server error", "InternalServerError", 500)
