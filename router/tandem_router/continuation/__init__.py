"""Streams whose decode worker was lost, and how another one goes on with them. Pure.

The router asks workers for token ids and keeps them. When a worker is lost, the prompt and the tokens that
the client has are prefilled elsewhere, and what comes from there is joined to the same stream. It is done
only where the client gets what it would have got; where not, the stream ends with an error.
"""

from tandem_router.continuation.base import Continuation
from tandem_router.continuation.native import Native
from tandem_router.continuation.vllm import Vllm

_BY_ENGINE: dict[str, Continuation] = {"native": Native(), "vllm": Vllm()}


def continuation_of(engine: str) -> Continuation | None:
    """By the name that workers carry; None for engines that tell no token ids."""
    return _BY_ENGINE.get(engine.partition("-")[0])
