"""The seam to engines: how one wants its two legs asked, and how its KV is given back. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from tandem_router.json_body import JsonBody

PARAMS = "kv_transfer_params"


@dataclass(frozen=True, slots=True)
class PrefillAnswer:
    """What the prefill leg gave. `params` None: no KV is held. `finished`: it stopped at its first token."""

    params: Mapping[str, Any] | None
    finished: bool


@dataclass(frozen=True, slots=True)
class ReleaseCall:
    """Where to give a handle back: the worker's gRPC service."""

    host: str
    port: int
    handle: str


class Engine(Protocol):
    """One engine's hand-over protocol."""

    def prepare_prefill(self, body: JsonBody) -> bytes:
        """The prefill leg: the request, to stop after one token and to keep its KV."""
        ...

    def read_prefill(self, request: JsonBody, answer: Mapping[str, Any]) -> PrefillAnswer: ...

    def prepare_decode(self, body: JsonBody, params: Mapping[str, Any] | None) -> bytes:
        """The decode leg, or with no params the whole request. A stream is always asked for its usage."""
        ...

    def lease(self, params: Mapping[str, Any], unix_now: float) -> float:
        """Seconds for which the worker keeps the KV; the router uses half of them."""
        ...

    def release(self, params: Mapping[str, Any]) -> ReleaseCall | None:
        """How to free the KV at once; None where only its lease ends it."""
        ...
