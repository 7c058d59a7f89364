"""Server-sent events: just enough reading to hold back, count and drop some while bytes pass. Pure."""

import json
import re
from typing import Any, NamedTuple

MAX_EVENT_BYTES = 4 * 2**20

_END = re.compile(rb"(?<=\n)\r?\n")
_DATA = re.compile(rb"^data:[ \t]*(.*)$", re.MULTILINE)
_ERROR = re.compile(rb'^data:[ \t]*\{\s*"error"\s*:', re.MULTILINE)
_DONE = re.compile(rb"^data:[ \t]*\[DONE\]", re.MULTILINE)
_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_DETAILS = re.compile(rb'"prompt_tokens_details"\s*:\s*(null|\{[^{}]*\})')
_CACHED = re.compile(rb'"cached_tokens"\s*:\s*(\d{1,12})')
_PROMPT_TOKENS = re.compile(rb'"prompt_tokens"\s*:\s*(\d{1,12})')
_OUTPUT_TOKENS = re.compile(rb'"completion_tokens"\s*:\s*(\d{1,12})')


class SseError(ValueError):
    """The stream is not one that the router can follow."""


class Usage(NamedTuple):
    """`cached_tokens`: those of the prompt that no worker had to compute; None where it was not told."""

    prompt_tokens: int
    output_tokens: int
    cached_tokens: int | None = None


def find_usage(data: bytes) -> Usage | None:
    """The token counts in an answer or event. Inside JSON strings the quotes are escaped: no false hit."""
    start = data.rfind(b'"usage"')
    if start < 0:
        return None
    prompt, output = _PROMPT_TOKENS.search(data, start), _OUTPUT_TOKENS.search(data, start)
    if not prompt or not output:
        return None
    cached = _CACHED.search(data, start)
    return Usage(int(prompt[1]), int(output[1]), int(cached[1]) if cached else None)


def with_cached_tokens(data: bytes, cached_tokens: int) -> bytes:
    """An answer or event whose usage says this: a decode worker takes KV that it pulled for its own cache."""
    opens = _USAGE.match(data, max(0, data.rfind(b'"usage"')))
    if opens is None:
        return data
    details = _DETAILS.search(data, opens.end())
    if details is None and not cached_tokens:
        return data
    if details is None:
        added = b'"prompt_tokens_details":{"cached_tokens":%d},' % cached_tokens
        return data[: opens.end()] + added + data[opens.end() :]
    if details[1] == b"null":
        return b'%b{"cached_tokens":%d}%b' % (data[: details.start(1)], cached_tokens, data[details.end(1) :])
    told = json.loads(details[1])
    value = json.dumps(told | {"cached_tokens": cached_tokens}, separators=(",", ":")).encode()
    return data[: details.start(1)] + value + data[details.end(1) :]


def split_events(data: bytes) -> list[bytes]:
    """Whole events, each with its closing blank line."""
    events, start = [], 0
    for end in _END.finditer(data):
        events.append(data[start : end.end()])
        start = end.end()
    return events


def _end_of_events(data: bytes) -> int:
    plain, crlf = data.rfind(b"\n\n"), data.rfind(b"\n\r\n")
    return max(plain + 2 if plain >= 0 else 0, crlf + 3 if crlf >= 0 else 0)


def error_of(event: bytes) -> dict[str, Any] | None:
    """The error that an event carries, as in `data: {"error": {...}}`; None if it carries none."""
    if not _ERROR.search(event):
        return None
    error = _payload(event).get("error")
    return error if isinstance(error, dict) else {"message": str(error)}


def opens_answer(event: bytes) -> bool:
    """False for what engines send before the first token: comments and the delta that only names the role."""
    if _DATA.search(event) is None:
        return False
    choices = _payload(event).get("choices")
    if not isinstance(choices, list) or not choices:
        return True
    return any(not _is_preamble(choice) for choice in choices)


def _is_preamble(choice: Any) -> bool:
    delta = choice.get("delta") if isinstance(choice, dict) else None
    if not isinstance(delta, dict) or choice.get("finish_reason"):
        return False
    return not any(value for key, value in delta.items() if key != "role")


def _payload(event: bytes) -> dict[str, Any]:
    match = _DATA.search(event)
    try:
        payload = json.loads(match[1]) if match else {}
    except ValueError:
        return {}
    return payload if isinstance(payload, dict) else {}


class EventReader:
    """Bytes of a stream in, whole events to forward out. Notes usage, the end, and an error on the way.

    `is_open`: the first token came. `withheld`: events that the client is not to see for now.
    `cached_tokens`: what the client's usage shall say of the prompt; None leaves the worker's word.
    """

    __slots__ = ("_drop_usage", "_rest", "cached_tokens", "done", "error", "is_open", "usage", "withheld")

    def __init__(self, *, drop_usage: bool, cached_tokens: int | None = None) -> None:
        self._rest = b""
        self._drop_usage = drop_usage
        self.cached_tokens = cached_tokens
        self.usage: Usage | None = None
        self.done = self.error = self.is_open = False
        self.withheld = b""

    def feed(self, data: bytes) -> bytes:
        """What to forward now. Raises SseError when one event does not end within MAX_EVENT_BYTES."""
        if self._rest or not data.endswith(b"\n\n"):
            data = self._whole(data)
        return self._read(data)

    def _read(self, data: bytes) -> bytes:
        if b'"error"' in data and _ERROR.search(data):
            self.error = True
        if b"[DONE]" in data and _DONE.search(data):
            self.done = True
        if b'"usage"' not in data or not _USAGE.search(data):
            return data
        return b"".join([self._noted(event) for event in split_events(data)])

    def _whole(self, data: bytes) -> bytes:
        """The events that are complete; the beginning of an unfinished one waits."""
        data = self._rest + data
        end = _end_of_events(data)
        self._rest = data[end:]
        if len(self._rest) > MAX_EVENT_BYTES:
            raise SseError(f"an event is longer than {MAX_EVENT_BYTES} bytes")
        return data[:end]

    def _noted(self, event: bytes) -> bytes:
        """The event as the client shall see it; empty if it only told the router the usage."""
        usage = find_usage(event)
        if usage is None:
            return event
        if self.cached_tokens is not None:
            event = with_cached_tokens(event, self.cached_tokens)
            usage = usage._replace(cached_tokens=self.cached_tokens)
        self.usage = usage
        return b"" if self._drop_usage and _NO_CHOICES.search(event) is not None else event
