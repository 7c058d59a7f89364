"""The seam to engines: how one wants its two legs asked, and how its KV is given back. Pure.

An engine is serial (its decode leg is made from the prefill leg's answer) or concurrent (both legs are sent
at once and find each other by a key that the router draws).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tandem_router.json_body import JsonBody, new_members
from tandem_router.types import Endpoint
from tandem_router.values import quick

PARAMS = "kv_transfer_params"
NO_STREAM = new_members({"stream": False})

_USAGE = {"include_usage": True}


@quick
@dataclass(frozen=True, slots=True)
class Pairing:
    """One attempt at a hand-over, as both of its legs name it.

    `request_id` is the x-request-id of both legs; `key` has 63 random bits, drawn anew for each attempt;
    `found` is what the router knows of this run of the prefill engine, None while it knows nothing.
    """

    request_id: str
    key: int
    prefill: Endpoint
    found: Mapping[str, Any] | None = None


@quick
@dataclass(frozen=True, slots=True)
class Prepared:
    """One leg, ready to be sent: its body, and headers besides those of every leg."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@quick
@dataclass(frozen=True, slots=True)
class PrefillAnswer:
    """What the prefill leg gave. `params` None: no KV is held. `finished`: it stopped at its first token."""

    params: Mapping[str, Any] | None
    finished: bool


@quick
@dataclass(frozen=True, slots=True)
class ReleaseCall:
    """Where to give a handle back: the worker's gRPC service."""

    host: str
    port: int
    handle: str


@quick
@dataclass(frozen=True, slots=True)
class Probe:
    """A GET that tells what `found` has to hold, at the prefill worker's own address."""

    port: int
    path: str


class Engine(ABC):
    """One engine's hand-over protocol."""

    verifies = False
    """Whether a decode worker refuses KV that is not the prompt's; else it answers with wrong tokens."""

    @abstractmethod
    def prepare_prefill(self, body: JsonBody, pairing: Pairing) -> Prepared:
        """The prefill leg: the request, to stop after one token and to keep or send its KV."""

    @abstractmethod
    def read_prefill(self, request: JsonBody, answer: Mapping[str, Any]) -> PrefillAnswer: ...

    @abstractmethod
    def prepare_decode(self, body: JsonBody, pairing: Pairing, params: Mapping[str, Any] | None) -> Prepared:
        """The decode leg; `params` are those of the prefill answer, None where both legs are sent at once."""

    def prepare_whole(self, body: JsonBody) -> Prepared:
        """The whole request for one worker."""
        return Prepared(with_usage(body).encode())

    def concurrent(self, found: Mapping[str, Any] | None) -> bool:
        """Whether both legs are sent at once, given what is known of the prefill engine."""
        return False

    def probe(self, prefill: Endpoint) -> Probe | None:
        """What to ask a prefill worker once in each of its runs, before its first hand-over."""
        return None

    def learn(self, answer: Any) -> Mapping[str, Any] | None:
        """What an answer to the probe, or else to a prefill leg, says of that run; None if nothing."""
        return None

    def lease(self, params: Mapping[str, Any], unix_now: float) -> float:
        """Seconds for which the prefill worker keeps the KV; the router uses half of them."""
        return 0.0

    def release(self, params: Mapping[str, Any]) -> ReleaseCall | None:
        """How to free the KV at once; None where only its lease ends it."""
        return None


def with_usage(body: JsonBody, changes: Mapping[str, Any] | None = None) -> JsonBody:
    """The body with `changes`; a stream is always asked for its usage."""
    members = new_members(changes or {})
    if body.get("stream"):
        options = body.get("stream_options") or {}
        if not options.get("include_usage"):
            members |= new_members({"stream_options": options | _USAGE})
    return body.with_members(members) if members else body


def finish_reason(answer: Mapping[str, Any]) -> Any:
    choice = first_choice(answer)
    return None if choice is None else choice.get("finish_reason")


def first_choice(answer: Mapping[str, Any]) -> Mapping[str, Any] | None:
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return None
    return choices[0]
