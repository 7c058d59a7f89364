"""From a chat completion's answer or stream to the Messages API's."""

import json
from typing import Any

from tandem_router.translate.bodies import server_sent
from tandem_router.translate.deltas import (
    Arguments,
    Begun,
    Broken,
    Delta,
    DeltaReader,
    Done,
    Ended,
    Text,
    Thought,
    ToolCall,
    Used,
    deltas_of,
)

_REASONS = {"length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_EMPTY: dict[str, dict[str, Any]] = {
    "text": {"type": "text", "text": ""},
    "thinking": {"type": "thinking", "thinking": "", "signature": ""},
}


class MessagesAnswer:
    """One request's answer, whole or streamed."""

    def __init__(self) -> None:
        self._reader = DeltaReader()
        self._index = -1
        self._open: str | None = None
        self._called = False
        self._ended: Ended | None = None
        self._used = Used(0, 0, 0, 0)

    def whole(self, data: bytes) -> bytes:
        message: dict[str, Any] = {}
        content: list[dict[str, Any]] = []
        arguments = ""
        for delta in deltas_of(data):
            match delta:
                case Begun():
                    message = _head(delta)
                case Text(text):
                    content.append(_EMPTY["text"] | {"text": text})
                case Thought(text):
                    content.append(_EMPTY["thinking"] | {"thinking": text})
                case ToolCall(identity, name):
                    content.append({"type": "tool_use", "id": identity, "name": name, "input": {}})
                case Arguments(arguments):
                    content[-1]["input"] = _object(arguments)
                case _:
                    self._note(delta)
        self._called = any(block["type"] == "tool_use" for block in content)
        message |= {"content": content, **self._stop(), "usage": _usage(self._used)}
        return json.dumps(message, ensure_ascii=False).encode()

    def error(self, status: int, data: bytes) -> bytes:
        return json.dumps(error_body(status, data)).encode()

    def feed(self, data: bytes) -> bytes:
        return b"".join([self._said(delta) for delta in self._reader.feed(data)])

    def _said(self, delta: Delta) -> bytes:
        match delta:
            case Begun():
                usage = _usage(Used(delta.prompt_tokens, 0, 0, 0))
                message = _head(delta) | {"content": [], "stop_reason": None, "stop_sequence": None}
                return server_sent("message_start", {"message": message | {"usage": usage}})
            case Text(text):
                return self._within("text") + self._piece({"type": "text_delta", "text": text})
            case Thought(text):
                return self._within("thinking") + self._piece({"type": "thinking_delta", "thinking": text})
            case ToolCall(identity, name):
                self._called = True
                block = {"type": "tool_use", "id": identity, "name": name, "input": {}}
                return self._close() + self._start("tool_use", block)
            case Arguments(text):
                return self._piece({"type": "input_json_delta", "partial_json": text})
            case Broken(message):
                error = {"type": "api_error", "message": message}
                return self._close() + server_sent("error", {"error": error})
            case Done():
                return self._end()
            case _:
                self._note(delta)
                return b""

    def _note(self, delta: Delta) -> None:
        if isinstance(delta, Ended):
            self._ended = delta
        elif isinstance(delta, Used):
            self._used = delta

    def _end(self) -> bytes:
        ending = {"delta": self._stop(), "usage": _usage(self._used)}
        return self._close() + server_sent("message_delta", ending) + server_sent("message_stop", {})

    def _within(self, kind: str) -> bytes:
        """Begins a block of this kind unless one is open."""
        return b"" if self._open == kind else self._close() + self._start(kind, _EMPTY[kind])

    def _start(self, kind: str, block: dict[str, Any]) -> bytes:
        self._index += 1
        self._open = kind
        ping = b"" if self._index else server_sent("ping", {})
        return server_sent("content_block_start", {"index": self._index, "content_block": block}) + ping

    def _piece(self, delta: dict[str, Any]) -> bytes:
        return server_sent("content_block_delta", {"index": self._index, "delta": delta})

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        self._open = None
        return server_sent("content_block_stop", {"index": self._index})

    def _stop(self) -> dict[str, Any]:
        reason, stop = self._ended or Ended("stop", None)
        if stop is not None:
            return {"stop_reason": "stop_sequence", "stop_sequence": stop}
        if self._called and reason == "stop":
            reason = "tool_calls"
        return {"stop_reason": _REASONS.get(reason, "end_turn"), "stop_sequence": None}


def error_body(status: int, data: bytes) -> dict[str, Any]:
    """OpenAI's error, or whatever a worker wrote instead, in the Messages API's shape."""
    try:
        error = json.loads(data).get("error")
        message = str(error.get("message") if isinstance(error, dict) else error)
    except (ValueError, AttributeError):
        message = data.decode(errors="replace")[:1000]
    kind = _ERRORS.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": message}}


def _head(begun: Begun) -> dict[str, Any]:
    return {"id": f"msg_{begun.id}", "type": "message", "role": "assistant", "model": begun.model}


def _usage(used: Used) -> dict[str, int]:
    """What was read from a cache is not counted as input there."""
    return {
        "input_tokens": used.prompt_tokens - used.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": used.cached_tokens,
        "output_tokens": used.output_tokens,
    }


def _object(arguments: str) -> dict[str, Any]:
    """A call that was cut off has no arguments that could be read."""
    try:
        value = json.loads(arguments)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
