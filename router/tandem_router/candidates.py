"""The workers of one model, sorted out once for many decisions: who can do what, and with whom. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tandem_router.types import Endpoint, Role


@dataclass(frozen=True, slots=True)
class Side:
    """Workers that can hand over to each other."""

    prefills: Sequence[Endpoint]
    decodes: Sequence[Endpoint]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Every way to serve one model. Good until the workers change. `known`: a worker names the model.

    `usable` are ready. KV only means the same to workers of one engine and one revision: each has its side.
    `wholes`, of which `mixed` are some, can do both phases themselves.
    """

    known: bool
    usable: tuple[Endpoint, ...]
    sides: tuple[Side, ...]
    wholes: tuple[Endpoint, ...]
    mixed: tuple[Endpoint, ...]


def candidates(endpoints: Iterable[Endpoint], model: str) -> Candidates:
    """What the workers of `model` among these can do."""
    mine = [e for e in endpoints if e.model == model]
    usable = tuple(e for e in mine if e.ready)
    prefills: dict[tuple[str, str], list[Endpoint]] = defaultdict(list)
    decodes: dict[tuple[str, str], list[Endpoint]] = defaultdict(list)
    for endpoint in usable:
        if endpoint.role is not Role.MIXED:
            group = prefills if endpoint.role is Role.PREFILL else decodes
            group[endpoint.engine, endpoint.revision].append(endpoint)
    return Candidates(
        known=bool(mine),
        usable=usable,
        sides=tuple(Side(tuple(prefills[key]), tuple(decodes[key])) for key in prefills if key in decodes),
        wholes=tuple(e for e in usable if e.role is not Role.PREFILL),
        mixed=tuple(e for e in usable if e.role is Role.MIXED),
    )
