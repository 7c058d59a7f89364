"""Names that clients may ask for: models of workers, aliases that share requests out, LoRA adapters. Pure."""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple
from zlib import crc32

from tandem_wire.router_settings import Access, ModelAlias


class Named(NamedTuple):
    """`model` is what workers are found by, `served` what they are told: the adapter's name if it is one."""

    model: str
    served: str
    adapter: str = ""


@dataclass(frozen=True, slots=True)
class _Shares:
    models: tuple[str, ...]
    bounds: tuple[float, ...]

    def of(self, key: str) -> str:
        """The same key gets the same model, in every router."""
        point = crc32(key.encode()) / 2**32 * self.bounds[-1]
        return self.models[min(bisect_right(self.bounds, point), len(self.models) - 1)]


class Names:
    """What names mean. An alias may name adapters; no alias names another."""

    def __init__(self, access: Access) -> None:
        self._shares = {alias.name: _shares(alias) for alias in access.aliases}
        self._adapters = {adapter.name: adapter.model for adapter in access.adapters}

    def resolve(self, name: str, key: str) -> Named:
        """`key` decides among an alias's models: a session stays where it is."""
        shares = self._shares.get(name)
        if shares is not None:
            name = shares.of(f"{name}\0{key}")
        base = self._adapters.get(name)
        return Named(name, name) if base is None else Named(base, name, name)

    def known(self, models: Iterable[str]) -> list[str]:
        """Everything that may be asked for while workers serve `models`."""
        found = set(models)
        adapters = [name for name, base in self._adapters.items() if base in found]
        return [*sorted(found), *sorted({*adapters, *self._shares} - found)]

    def __bool__(self) -> bool:
        return bool(self._shares or self._adapters)


def _shares(alias: ModelAlias) -> _Shares:
    weights = accumulate(share.weight for share in alias.models)
    return _Shares(tuple(share.model for share in alias.models), tuple(weights))


PLAIN = Names(Access())
