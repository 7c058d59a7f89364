"""Highest random weight hashing: every router ranks the workers for a key alike, without talking.

Thaler and Ravishankar, "A name-based mapping scheme for rendezvous" (1996). A worker that comes or goes moves
only the keys that it wins or loses.
"""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

SLOTS = 4096
"""Keys share so many rankings of the workers, each worked out once until the workers change."""
_MASK = 2**64 - 1
_ODD = 0x9E3779B97F4A7C15


@lru_cache(maxsize=1 << 14)
def key_of(text: str) -> int:
    """64 bits of a name, the same in every process."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def slot_of(key: int) -> int:
    return ((key * _ODD) & _MASK) >> 52


@lru_cache(maxsize=1 << 16)
def weight(slot: int, name: str) -> int:
    """How much this worker is the slot's: independent among workers and slots."""
    mixed = ((key_of(name) ^ (slot + 1) * _ODD) * _ODD) & _MASK
    return ((mixed ^ (mixed >> 32)) * _ODD) & _MASK


def ranked(slot: int, seeds: Sequence[int], count: int) -> list[int]:
    """Indices of the first `count` workers for a slot, the owner first. `seeds`: `key_of` their names."""
    spread, odd, mask = (slot + 1) * _ODD, _ODD, _MASK
    mixed = [((seed ^ spread) * odd) & mask for seed in seeds]
    weights = [((value ^ (value >> 32)) * odd) & mask for value in mixed]
    found: list[int] = []
    for _ in range(min(count, len(weights))):
        found.append(weights.index(max(weights)))
        weights[found[-1]] = -1
    return found
