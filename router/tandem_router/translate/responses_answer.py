"""From a chat completion's answer or stream to the Responses API's."""

import json
from collections.abc import Mapping
from typing import Any

from tandem_router.translate import responses_items as items
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
from tandem_router.translate.responses_schema import ResponsesRequest

_TEXT, _THOUGHT, _CALL = "message", "reasoning", "function_call"
_PREFIX = {_TEXT: "msg", _THOUGHT: "rs", _CALL: "fc"}
_PIECE = {_TEXT: "response.output_text", _THOUGHT: "response.reasoning_text"}
_CALL_PIECE = "response.function_call_arguments"


class ResponsesAnswer:
    """One request's answer, whole or streamed; either way the stream's events make it up."""

    def __init__(self, asked: ResponsesRequest) -> None:
        self._asked = asked
        self._reader = DeltaReader()
        self._number = 0
        self._begun = Begun("", "", 0, 0)
        self._output: list[dict[str, Any]] = []
        self._kind: str | None = None
        self._call = ToolCall("", "")
        self._text: list[str] = []
        self._logprobs: list[Mapping[str, Any]] = []
        self._ended: Ended | None = None
        self._used = Used(0, 0, 0, 0)

    def whole(self, data: bytes) -> bytes:
        for delta in deltas_of(data):
            self._said(delta)
        return json.dumps(self._response(), ensure_ascii=False).encode()

    def error(self, _status: int, data: bytes) -> bytes:
        return data

    def feed(self, data: bytes) -> bytes:
        return b"".join([self._said(delta) for delta in self._reader.feed(data)])

    def _said(self, delta: Delta) -> bytes:
        match delta:
            case Begun():
                self._begun = delta
                return self._state("response.created") + self._state("response.in_progress")
            case Text(text, logprobs):
                self._logprobs += logprobs
                return self._within(_TEXT) + self._piece(text, {"logprobs": list(logprobs)})
            case Thought(text):
                return self._within(_THOUGHT) + self._piece(text, {})
            case ToolCall():
                closed = self._close()
                self._call = delta
                return closed + self._within(_CALL)
            case Arguments(text):
                return self._piece(text, {})
            case Ended():
                self._ended = delta
            case Used():
                self._used = delta
            case Done():
                return self._close() + self._finish()
            case Broken():
                return self._close("incomplete") + self._fail(delta)
        return b""

    def _finish(self) -> bytes:
        response = self._response()
        return self._event(f"response.{response['status']}", {"response": response})

    def _fail(self, broken: Broken) -> bytes:
        error = {"code": "server_error", "message": broken.message}
        failed = items.response(self._asked, self._begun, self._output, "failed", error=error)
        return self._event("response.failed", {"response": failed})

    def _response(self) -> dict[str, Any]:
        ending = items.ending(self._ended, self._used)
        return items.response(self._asked, self._begun, self._output, **ending)

    def _state(self, kind: str) -> bytes:
        response = items.response(self._asked, self._begun, (), "in_progress")
        return self._event(kind, {"response": response})

    def _event(self, kind: str, payload: dict[str, Any]) -> bytes:
        number, self._number = self._number, self._number + 1
        return server_sent(kind, {"sequence_number": number, **payload})

    def _within(self, kind: str) -> bytes:
        """Begins an item of this kind unless one is open."""
        if self._kind == kind and kind != _CALL:
            return b""
        closed = self._close()
        self._kind = kind
        index = len(self._output)
        item = self._item("in_progress", None)
        added = self._event("response.output_item.added", {"output_index": index, "item": item})
        if kind == _CALL:
            return closed + added
        part = self._event("response.content_part.added", self._place() | {"part": self._part("")})
        return closed + added + part

    def _piece(self, text: str, more: dict[str, Any]) -> bytes:
        self._text.append(text)
        if self._kind == _CALL:
            return self._event(f"{_CALL_PIECE}.delta", self._item_place() | {"delta": text})
        kind = _PIECE[self._kind or _TEXT]
        return self._event(f"{kind}.delta", self._place() | {"delta": text, **more})

    def _close(self, status: str = "completed") -> bytes:
        if self._kind is None:
            return b""
        text = "".join(self._text)
        item = self._item(self._item_status(status), text)
        events = self._closing(text)
        events += self._event("response.output_item.done", {"output_index": len(self._output), "item": item})
        self._output.append(item)
        self._kind, self._text, self._logprobs = None, [], []
        return events

    def _closing(self, text: str) -> bytes:
        if self._kind == _CALL:
            done = self._item_place() | {"name": self._call.name, "arguments": text}
            return self._event(f"{_CALL_PIECE}.done", done)
        logprobs = {"logprobs": list(self._logprobs)} if self._kind == _TEXT else {}
        whole = self._place() | {"text": text, **logprobs}
        said = self._event(f"{_PIECE[self._kind or _TEXT]}.done", whole)
        return said + self._event("response.content_part.done", self._place() | {"part": self._part(text)})

    def _item_status(self, status: str) -> str:
        cut = self._ended is not None and self._ended.reason == "length"
        return "incomplete" if cut else status

    def _item(self, status: str, text: str | None) -> dict[str, Any]:
        """The open item; `text` None while it is empty."""
        identity = self._identity()
        if self._kind == _CALL:
            return items.call(identity, status, self._call.id, self._call.name, text or "")
        parts = [] if text is None else [self._part(text)]
        make = items.message if self._kind == _TEXT else items.thought
        return make(identity, status, parts)

    def _part(self, text: str) -> dict[str, Any]:
        return items.text_part(text, self._logprobs) if self._kind == _TEXT else items.thought_part(text)

    def _identity(self) -> str:
        return f"{_PREFIX[self._kind or _TEXT]}_{self._begun.id}_{len(self._output)}"

    def _item_place(self) -> dict[str, Any]:
        return {"item_id": self._identity(), "output_index": len(self._output)}

    def _place(self) -> dict[str, Any]:
        return self._item_place() | {"content_index": 0}
