"""What a stream has given so far: the ids of its tokens, kept while its bytes pass. Pure.

For each chunk one list append; every few KB one pass of a regular expression over what has piled up.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from tandem_router.sse import split_events

RAW_BYTES = 4096
TAIL_BYTES = 1536
"""The last events stay as they came: they tell where the text that the client has ends."""
MAX_BYTES = 2**20
"""Of ids of one stream. Longer ones are not followed: memory is bounded."""

_IDS = re.compile(rb'"token_ids":\s*\[([\d,\s]*)\]')
_PROMPT_IDS = re.compile(rb'"prompt_token_ids":\s*\[([\d,\s]*)\]')
_SHOWN = re.compile(rb'token_ids":\s*\[[\d,\s]*\]')
_DATA = re.compile(rb"^data:[ \t]*(\{.*)$", re.MULTILINE)


def without_ids(events: bytes) -> bytes:
    """The events as a client sees them that did not ask for ids. Quotes in JSON strings are escaped."""
    return _SHOWN.sub(b'token_ids":null', events)


def count_ids(ids: bytes) -> int:
    return ids.count(b",") + 1 if ids else 0


def joined(*ids: bytes) -> bytes:
    return b",".join([part for part in ids if part])


@dataclass(frozen=True, slots=True)
class Head:
    """What all events of an answer have in common for its client."""

    id: str
    created: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Where a worker goes on: token ids as JSON writes them, without brackets.

    `skip`: the first characters of its text are those that the client has already. `echo`: the end of the
    text before, if the worker may say everything again up to and with it; empty if it cannot.
    """

    prompt: bytes
    output: bytes = b""
    skip: int = 0
    echo: str = ""

    @property
    def num_output(self) -> int:
        return count_ids(self.output)


@dataclass(frozen=True, slots=True)
class Step:
    """One event with a choice. `said`: its text; None where it is no plain text but, say, a tool's call."""

    ids: bytes
    said: str | None
    finished: bool


@dataclass(frozen=True, slots=True)
class Given:
    """Ids of the prompt and of the output before `steps`, which are the last events.

    `start`: where this worker began, if the steps are all that it said.
    """

    prompt: bytes
    early: bytes
    steps: tuple[Step, ...]
    head: Head
    start: Plan | None

    @property
    def finished(self) -> bool:
        return any(step.finished for step in self.steps)

    @property
    def output(self) -> bytes:
        return joined(self.early, *[step.ids for step in self.steps])

    @property
    def num_output(self) -> int:
        return count_ids(self.output)


class Emitted:
    """Collects one worker's part of a stream; of a stream that goes on, beginning with what was before."""

    __slots__ = ("_early", "_head", "_pieces", "_prompt", "_size", "_start", "too_long")

    def __init__(self, start: Plan | None = None, head: Head | None = None) -> None:
        self._start: Plan | None = start or Plan(b"")
        self._prompt, self._early, self._head = self._start.prompt, bytearray(self._start.output), head
        self._pieces: list[bytes] = []
        self._size = 0
        self.too_long = False

    def add(self, events: bytes) -> None:
        """Takes in whole events as the worker sent them."""
        if self.too_long:
            return
        self._pieces.append(events)
        self._size += len(events)
        if self._size > RAW_BYTES:
            self._compact()

    def given(self) -> Given | None:
        """None: the worker told no ids, or too many."""
        events = self._look_at_prompt(b"".join(self._pieces))
        payloads = [payload for event in split_events(events) if (payload := _payload(event)) is not None]
        if self.too_long or not self._prompt or not (payloads or self._head):
            return None
        steps = tuple(_step(payload) for payload in payloads if payload.get("choices"))
        if any(step.ids == b"" and step.said and not step.finished for step in steps):
            return None
        head = self._head or Head(str(payloads[-1].get("id")), int(payloads[-1].get("created") or 0))
        return Given(self._prompt, bytes(self._early), steps, head, self._start)

    def _compact(self) -> None:
        events = self._look_at_prompt(b"".join(self._pieces))
        end = events.rfind(b"\n\n", 0, max(0, len(events) - TAIL_BYTES)) + 2
        if end > 2:
            ids = joined(*_IDS.findall(events, 0, end))
            self._early += b"," + ids if self._early and ids else ids
            events, self._start = events[end:], None
        self._pieces, self._size = [events], len(events)
        if len(self._early) + len(self._prompt) > MAX_BYTES or self._size > MAX_BYTES:
            self.too_long = True
            self._pieces, self._early, self._prompt = [], bytearray(), b""

    def _look_at_prompt(self, events: bytes) -> bytes:
        """Sets the prompt's ids aside, which are in the first events."""
        if self._start is not None and not self._prompt and (found := _PROMPT_IDS.search(events)):
            self._prompt = found[1]
            self._start = Plan(found[1])
            events = events[: found.start()] + b'"prompt_token_ids":null' + events[found.end() :]
        return events


def _payload(event: bytes) -> dict[str, Any] | None:
    found = _DATA.search(event)
    try:
        payload = json.loads(found[1]) if found else None
    except ValueError:
        return None
    return payload if isinstance(payload, dict) else None


def _step(payload: dict[str, Any]) -> Step:
    (choice, *_) = payload["choices"]
    ids = b",".join([b"%d" % token_id for token_id in choice.get("token_ids") or ()])
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        return Step(ids, str(choice.get("text") or ""), bool(choice.get("finish_reason")))
    plain = not any(value for key, value in delta.items() if key not in ("role", "content"))
    said = str(delta.get("content") or "") if plain else None
    return Step(ids, said, bool(choice.get("finish_reason")))
