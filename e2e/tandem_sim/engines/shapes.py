"""Answers and events in OpenAI's shape, with vLLM's additions. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tandem_sim.engines.text import word_of

_LOGPROB = -0.125


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request asks for besides tokens. `logprobs`: how many alternatives, None for none at all."""

    n: int = 1
    echo: str = ""
    logprobs: int | None = None
    tool: str | None = None
    token_ids: bool = False
    usage: bool = False


def wanted_of(body: Mapping[str, Any]) -> Wanted:
    logprobs = body.get("logprobs")
    if isinstance(logprobs, bool):
        logprobs = (body.get("top_logprobs") or 0) if logprobs else None
    echo = body.get("prompt") if body.get("echo") else ""
    return Wanted(
        n=body.get("n") or 1,
        echo=echo if isinstance(echo, str) else "",
        logprobs=logprobs,
        tool=_tool(body),
        token_ids=bool(body.get("return_token_ids")),
        usage=bool((body.get("stream_options") or {}).get("include_usage")),
    )


def _tool(body: Mapping[str, Any]) -> str | None:
    tools = body.get("tools") or []
    choice = body.get("tool_choice", "auto")
    if not tools or choice == "none":
        return None
    if isinstance(choice, dict):
        return str(choice["function"]["name"])
    return str(tools[0]["function"]["name"])


@dataclass(frozen=True, slots=True)
class Shape:
    """How one request is answered: `chat` or text completion, under which id and model name."""

    chat: bool
    request_id: str
    model: str
    wanted: Wanted = Wanted()

    def whole(
        self,
        outputs: Sequence[Sequence[int]],
        finish: str,
        prompt_ids: Sequence[int],
        cached_tokens: int,
        extras: Mapping[str, Any],
    ) -> dict[str, Any]:
        """One choice for each of `outputs`. `extras` are the protocol's; TensorRT-LLM's go into choices."""
        more = {key: extras[key] for key in ("disaggregated_params",) if key in extras}
        choices = [
            {"index": index, **self._content(ids, prompt_ids), "finish_reason": self._finish(finish), **more}
            for index, ids in enumerate(outputs)
        ]
        top = {key: value for key, value in extras.items() if key not in more}
        if self.chat and self.wanted.token_ids:
            top["prompt_token_ids"] = list(prompt_ids)
        return {
            **self._head("chat.completion" if self.chat else "text_completion"),
            "choices": choices,
            "usage": usage(len(prompt_ids), sum(len(ids) for ids in outputs), cached_tokens),
            "kv_transfer_params": None,
            **top,
        }

    def opening_events(self, prompt_ids: Sequence[int]) -> bytes:
        """What comes before the first token."""
        if not self.chat:
            return b""
        more = {"prompt_token_ids": list(prompt_ids)} if self.wanted.token_ids else {}
        roles = [
            {"index": index, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
            for index in range(self.wanted.n)
        ]
        return b"".join(self._chunk([role], more) for role in roles)

    def token_event(
        self, index: int, ids: Sequence[int], finish: str | None, *, first: bool, prompt_ids: Sequence[int]
    ) -> bytes:
        text = "".join(map(word_of, ids))
        if self.chat:
            content: dict[str, Any] = {"delta": self._delta(text, first=first)}
        else:
            content = {"text": self.wanted.echo + text if first else text}
            if first and self.wanted.token_ids:
                content["prompt_token_ids"] = list(prompt_ids)
        if self.wanted.token_ids:
            content["token_ids"] = list(ids)
        reason = None if finish is None else self._finish(finish)
        choice = {"index": index, **content, "logprobs": self._logprobs(ids), "finish_reason": reason}
        return self._chunk([choice])

    def usage_event(self, prompt_tokens: int, output_tokens: int, cached_tokens: int) -> bytes:
        return self._chunk([], {"usage": usage(prompt_tokens, output_tokens, cached_tokens)})

    def _content(self, ids: Sequence[int], prompt_ids: Sequence[int]) -> dict[str, Any]:
        text = "".join(map(word_of, ids))
        content: dict[str, Any]
        if not self.chat:
            content = {"text": self.wanted.echo + text}
        elif self.wanted.tool is None:
            content = {"message": {"role": "assistant", "content": text}}
        else:
            call = {"id": "call-0", "type": "function", "function": self._function(text)}
            content = {"message": {"role": "assistant", "content": None, "tool_calls": [call]}}
        if self.wanted.token_ids:
            content["token_ids"] = list(ids)
            if not self.chat:
                content["prompt_token_ids"] = list(prompt_ids)
        return {**content, "logprobs": self._logprobs(ids)}

    def _delta(self, text: str, *, first: bool) -> dict[str, Any]:
        if self.wanted.tool is None:
            return {"content": text}
        call: dict[str, Any] = {"index": 0, "function": {"arguments": text}}
        if first:
            call |= {"id": "call-0", "type": "function"}
            call["function"]["name"] = self.wanted.tool
        return {"tool_calls": [call]}

    def _function(self, text: str) -> dict[str, Any]:
        return {"name": self.wanted.tool, "arguments": text}

    def _finish(self, finish: str) -> str:
        return finish if self.wanted.tool is None or not self.chat else "tool_calls"

    def _logprobs(self, ids: Sequence[int]) -> dict[str, Any] | None:
        if self.wanted.logprobs is None:
            return None
        words = list(map(word_of, ids))
        if self.chat:
            top = [{"token": word, "logprob": _LOGPROB, "bytes": list(word.encode())} for word in words]
            return {"content": [{**each, "top_logprobs": [each][: self.wanted.logprobs]} for each in top]}
        return {
            "tokens": words,
            "token_logprobs": [_LOGPROB] * len(words),
            "top_logprobs": [{word: _LOGPROB} for word in words] if self.wanted.logprobs else None,
            "text_offset": [index * 6 for index in range(len(words))],
        }

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


def usage(prompt_tokens: int, output_tokens: int, cached_tokens: int = 0) -> dict[str, Any]:
    counts: dict[str, Any] = {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + output_tokens,
        "completion_tokens": output_tokens,
    }
    return counts | {"prompt_tokens_details": {"cached_tokens": cached_tokens}} if cached_tokens else counts


def event(payload: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(payload, separators=(",", ":")).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def error(message: str, kind: str, code: int | str) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


INTERNAL_ERROR = error("Internal server error", "InternalServerError", 500)
