"""What a chat answer says, in pieces: of a stream as they come, of a whole answer at once."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tandem_router.sse import split_events


class Begun(NamedTuple):
    """The first piece of every answer. `prompt_tokens` is 0 where the engine tells it at the end."""

    id: str
    model: str
    created: int
    prompt_tokens: int


class Text(NamedTuple):
    text: str
    logprobs: Sequence[Mapping[str, Any]]


class Thought(NamedTuple):
    text: str


class ToolCall(NamedTuple):
    """A call begins; its arguments follow."""

    id: str
    name: str


class Arguments(NamedTuple):
    """More of the newest call's arguments, which are JSON in all."""

    text: str


class Ended(NamedTuple):
    """`stop` is the stop string that was met, if one was."""

    reason: str
    stop: str | None


class Used(NamedTuple):
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int


class Broken(NamedTuple):
    """The answer is not complete and will not be."""

    message: str
    code: str


class Done(NamedTuple):
    """The stream is complete."""


Delta = Begun | Text | Thought | ToolCall | Arguments | Ended | Used | Broken | Done
_ODD = (AttributeError, IndexError, KeyError, TypeError)
_UNUSED = Used(0, 0, 0, 0)


class DeltaReader:
    """Bytes of a chat stream in, deltas out."""

    def __init__(self) -> None:
        self._rest = b""
        self._begun = False
        self._calls: set[int] = set()

    def feed(self, data: bytes) -> list[Delta]:
        """Raises ValueError for an event that is none of a chat stream."""
        data = self._rest + data
        events = split_events(data)
        self._rest = data[sum(map(len, events)) :]
        return [delta for event in events for delta in self._of_event(event)]

    def _of_event(self, event: bytes) -> Iterator[Delta]:
        data = b"\n".join([line[5:].strip() for line in event.splitlines() if line.startswith(b"data:")])
        if data == b"[DONE]":
            yield Done()
        elif data:
            try:
                yield from self._of_chunk(json.loads(data))
            except _ODD as error:
                raise ValueError("an event of the stream is no chat chunk") from error

    def _of_chunk(self, chunk: Mapping[str, Any]) -> Iterator[Delta]:
        if isinstance(error := chunk.get("error"), Mapping):
            yield Broken(str(error.get("message")), str(error.get("code") or "server_error"))
            return
        if not self._begun:
            self._begun = True
            yield begun(chunk)
        choices = chunk.get("choices") or ()
        for choice in choices:
            yield from self._of_message(choice.get("delta") or {}, choice)
        if chunk.get("usage") and all(choice.get("finish_reason") for choice in choices):
            yield used(chunk)

    def _of_message(self, message: Mapping[str, Any], choice: Mapping[str, Any]) -> Iterator[Delta]:
        if thought := message.get("reasoning_content") or message.get("reasoning"):
            yield Thought(thought)
        if text := message.get("content"):
            yield Text(text, (choice.get("logprobs") or {}).get("content") or ())
        for call in message.get("tool_calls") or ():
            yield from self._of_call(call)
        if choice.get("finish_reason"):
            yield ended(choice)

    def _of_call(self, call: Mapping[str, Any]) -> Iterator[Delta]:
        index, function = call.get("index") or 0, call.get("function") or {}
        if index not in self._calls:
            self._calls.add(index)
            yield ToolCall(call.get("id") or f"call_{index}", function.get("name") or "")
        if function.get("arguments"):
            yield Arguments(function["arguments"])


def deltas_of(data: bytes) -> list[Delta]:
    """A whole chat completion as deltas, each thing in one piece. Raises ValueError for what is none."""
    try:
        answer = json.loads(data)
        choice = answer["choices"][0]
        message = choice["message"]
        calls = [call | {"index": index} for index, call in enumerate(message.get("tool_calls") or ())]
        said = DeltaReader()._of_message({**message, "tool_calls": calls}, choice)
        return [begun(answer), *said, used(answer), Done()]
    except (*_ODD, ValueError) as error:
        raise ValueError("the answer is no chat completion") from error


def begun(chunk: Mapping[str, Any]) -> Begun:
    usage = chunk.get("usage") or {}
    identity = str(chunk.get("id") or "").removeprefix("chatcmpl-")
    return Begun(
        identity, chunk.get("model") or "", chunk.get("created") or 0, usage.get("prompt_tokens") or 0
    )


def ended(choice: Mapping[str, Any]) -> Ended:
    stop = choice.get("stop_reason")
    return Ended(choice["finish_reason"], stop if isinstance(stop, str) else None)


def used(chunk: Mapping[str, Any]) -> Used:
    usage = chunk.get("usage")
    if not usage:
        return _UNUSED
    details = usage.get("prompt_tokens_details") or {}
    output = usage.get("completion_tokens_details") or {}
    return Used(
        usage.get("prompt_tokens") or 0,
        usage.get("completion_tokens") or 0,
        details.get("cached_tokens") or 0,
        output.get("reasoning_tokens") or usage.get("reasoning_tokens") or 0,
    )
