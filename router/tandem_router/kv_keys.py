"""Our own names of KV blocks: chained 64-bit hashes of token ids. Pure; alike in one process only."""

from array import array
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b

_MASK = 2**32 - 1


@lru_cache(maxsize=1024)
def root_key(model: str, adapter: str) -> int:
    """The parent of every first block: KV of one model and adapter is nothing to another."""
    return _hash("\0".join((model, adapter)).encode())


def block_key(parent: int, token_ids: Sequence[int], extra: Iterable[str] = ()) -> int:
    """The name of a block after `parent`. `extra`: what its KV depends on besides, such as a cache salt."""
    try:
        ids = array("I", token_ids).tobytes()
    except OverflowError:
        ids = array("I", [token & _MASK for token in token_ids]).tobytes()
    text = "\0".join(extra)
    return _hash(
        parent.to_bytes(8, "little") + ids + text.encode() if text else parent.to_bytes(8, "little") + ids
    )


def token_keys(token_ids: Sequence[int], block_size: int, root: int, salt: str = "") -> list[int]:
    """The names of a prompt's full blocks. Only the first depends on the salt itself."""
    keys: list[int] = []
    key, extra = root, (salt,) if salt else ()
    for start in range(0, len(token_ids) - block_size + 1, block_size):
        key = block_key(key, token_ids[start : start + block_size], extra)
        keys.append(key)
        extra = ()
    return keys


def _hash(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")
