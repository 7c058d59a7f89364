"""The seam to engines: which streams can go on elsewhere, and how the rest is asked for."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

from tandem_router.continuation.emitted import Given, Plan
from tandem_router.continuation.joint import Joint
from tandem_router.json_body import JsonBody, Member, new_members
from tandem_router.openai import Api, ParsedRequest

ASK: Mapping[str, Member] = new_members({"return_token_ids": True})
COMPLETION_TOKENS = 16
"""What engines take for max_tokens of a text completion that names none."""


class Rest(NamedTuple):
    """The request for the rest of an answer, and what joins its events to the stream."""

    api: Api
    body: JsonBody
    joint: Joint


class NotExactError(Exception):
    """The stream cannot go on exactly; the message is one of few reasons, fit for a label."""


class Continuation(ABC):
    """What one engine's streams need to go on at another of its workers."""

    def can_ask(self, parsed: ParsedRequest) -> bool:
        """Whether a stream of this request is worth asking token ids for."""
        return not parsed.features

    @abstractmethod
    def plan(self, parsed: ParsedRequest, given: Given) -> Plan:
        """Raises NotExactError."""

    @abstractmethod
    def rest(self, parsed: ParsedRequest, plan: Plan, given: Given, room: int | None) -> Rest:
        """`room`: how many tokens prompt and output may have, where `needs_room`. Raises NotExactError."""

    def needs_room(self, parsed: ParsedRequest) -> bool:
        """Whether `rest` must be told the model's maximum length."""
        return False


def less(body: JsonBody, key: str, done: int, default: int | None = None) -> int | None:
    """A limit of tokens, without those that are there; at least 1. None: the request names none."""
    value = body.get(key)
    limit = value if isinstance(value, int) else default
    return None if limit is None else max(1, limit - done)
