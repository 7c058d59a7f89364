"""Highest random weight hashing: every router ranks the workers for a key alike, without talking.

Thaler and Ravishankar, "A name-based mapping scheme for rendezvous" (1996). A worker that comes or goes moves
only the keys that it wins or loses.
"""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from heapq import nlargest

from tandem_router.types import Endpoint

_MASK = 2**64 - 1
_ODD = 0x9E3779B97F4A7C15


@lru_cache(maxsize=1 << 14)
def key_of(text: str) -> int:
    """64 bits of a name, the same in every process."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


@lru_cache(maxsize=1 << 16)
def weight(key: int, name: str) -> int:
    """How much this worker is the key's: 64 bits, independent among workers and keys."""
    mixed = ((key_of(name) ^ key) * _ODD) & _MASK
    return ((mixed ^ (mixed >> 32)) * _ODD) & _MASK


def ranked(key: int, endpoints: Sequence[Endpoint], count: int) -> list[int]:
    """Indices of the first `count` workers for `key`, the owner first."""
    weights = [weight(key, e.name) for e in endpoints]
    if count == 1:
        return [weights.index(max(weights))]
    return nlargest(count, range(len(weights)), key=weights.__getitem__)
