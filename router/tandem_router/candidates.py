"""The workers of one model, sorted out once for many decisions: who can do what, and with whom. Pure."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from tandem_router.engines.limits import HANDOVER_ONLY
from tandem_router.rendezvous import key_of, ranked, slot_of
from tandem_router.types import Endpoint, Role

_OWNERS = 2


class Roster(tuple[Endpoint, ...]):
    """Workers of one kind, and what is looked up of them in every decision."""

    @cached_property
    def names(self) -> list[str]:
        return [endpoint.name for endpoint in self]

    @cached_property
    def places(self) -> dict[str, int]:
        """Name -> index."""
        return {name: index for index, name in enumerate(self.names)}

    def owners(self, key: int) -> list[int]:
        """Indices of the first workers for `key`, by rendezvous hashing."""
        slot = slot_of(key)
        found = self._owners.get(slot)
        if found is None:
            found = self._owners[slot] = ranked(slot, self._seeds, _OWNERS)
        return found

    @cached_property
    def _owners(self) -> dict[int, list[int]]:
        return {}

    @cached_property
    def _seeds(self) -> list[int]:
        return [key_of(name) for name in self.names]


@dataclass(frozen=True, slots=True)
class Side:
    """Workers that can hand over to each other."""

    prefills: Roster
    decodes: Roster


@dataclass(frozen=True, slots=True)
class Candidates:
    """Every way to serve one model. Good until the workers change. `known`: a worker names the model.

    `usable` are ready. KV only means the same to workers of one engine and one revision: each has its side.
    `wholes`, of which `mixed` are some, can do both phases themselves.
    """

    known: bool
    usable: tuple[Endpoint, ...]
    sides: tuple[Side, ...]
    wholes: Roster
    mixed: Roster


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
        sides=tuple(Side(Roster(prefills[key]), Roster(decodes[key])) for key in prefills if key in decodes),
        wholes=Roster(e for e in usable if _serves_whole(e)),
        mixed=Roster(e for e in usable if e.role is Role.MIXED),
    )


def _serves_whole(endpoint: Endpoint) -> bool:
    decodes_alone = endpoint.role is Role.DECODE and endpoint.engine not in HANDOVER_ONLY
    return endpoint.role is Role.MIXED or decodes_alone
