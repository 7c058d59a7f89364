"""Our own names of KV blocks: chained 64-bit hashes of token ids. Pure; for one process only."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b

_MASK = 2**32 - 1


@lru_cache(maxsize=1024)
def root_key(model: str, adapter: str) -> int:
    """The parent of every first block: KV of one model and adapter is nothing to another."""
    return _hash(b"", "\0".join((model, adapter)).encode())


def block_key(parent: int, token_ids: Sequence[int], extra: Iterable[str] = ()) -> int:
    """The name of a block after `parent`. `extra`: what its KV depends on besides, such as a cache salt."""
    return _hash(parent.to_bytes(8, "little"), _bytes(token_ids) + "\0".join(extra).encode())


def token_keys(token_ids: Sequence[int], block_size: int, root: int, salt: str = "") -> Iterator[int]:
    """The names of a prompt's full blocks, worked out as they are asked for. `salt` enters with the first."""
    data, width = _bytes(token_ids), 4 * block_size
    parent, extra = root.to_bytes(8, "little"), salt.encode()
    for start in range(0, len(data) - width + 1, width):
        parent = blake2b(parent + data[start : start + width] + extra, digest_size=8).digest()
        yield int.from_bytes(parent, "little")
        extra = b""


def _bytes(token_ids: Sequence[int]) -> bytes:
    try:
        return array("I", token_ids).tobytes()
    except OverflowError:
        return array("I", [token & _MASK for token in token_ids]).tobytes()


def _hash(parent: bytes, data: bytes) -> int:
    return int.from_bytes(blake2b(parent + data, digest_size=8).digest(), "little")
