"""Workers that are kept for some requests: the same ones in every router, with no word between them."""

from collections.abc import Iterable
from hashlib import blake2b
from math import ceil

from tandem_router.types import Endpoint, Role


def prefill_side(endpoints: Iterable[Endpoint], model: str) -> list[Endpoint]:
    """The workers that compute the model's prompts: prefill workers, or without any those that do both."""
    ready = [e for e in endpoints if e.model == model and e.ready]
    prefills = [e for e in ready if e.role is Role.PREFILL]
    mixed = [e for e in ready if e.role is Role.MIXED]
    return prefills or mixed or ready


def reserved(endpoints: Iterable[Endpoint], share: float, purpose: str) -> frozenset[str]:
    """A share of each model's prefill side: at least one worker, never all, none where there is only one."""
    known = tuple(endpoints)
    names: set[str] = set()
    for model in {e.model for e in known}:
        side = sorted(prefill_side(known, model), key=lambda e: _rank(purpose, e.name))
        names.update(e.name for e in side[: min(len(side) - 1, ceil(share * len(side)))])
    return frozenset(names)


def _rank(purpose: str, name: str) -> bytes:
    return blake2b(f"{purpose}/{name}".encode(), digest_size=8).digest()
