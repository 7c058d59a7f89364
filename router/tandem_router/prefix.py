"""A prompt's leading text as chained hashes, without tokenising. Pure; alike in every process and version.

CRC-32 of the request's own JSON bytes: a third of the cost of BLAKE2b, and a collision only sends a request
to a worker that has less of its prompt than thought.
"""

from bisect import bisect_left
from itertools import accumulate
from zlib import crc32

from tandem_router.rendezvous import key_of
from tandem_router.types import RequestInfo

BYTES_PER_TOKEN = 4
"""A usual value for English and byte-pair vocabularies."""
_BLOCK_SIZES = (512,) * 32 + (2048,) * 32 + (8192,) * 64
BOUNDS = tuple(accumulate(_BLOCK_SIZES))
"""Where blocks end, in bytes. They grow, so that long prompts cost little; the rest is ignored."""
AFFINITY_BLOCKS = 8
"""Prompts that share so many leading blocks belong to the same workers."""


def root_of(model: str, tenant: str, adapter: str, tools: bytes = b"") -> int:
    """What prompts must have in common before their first byte: nothing is shared across tenants."""
    root = crc32("\0".join((model, tenant, adapter)).encode())
    return crc32(tools, root) if tools else root


def prefix_hashes(text: memoryview, root: int) -> tuple[int, ...]:
    """The hashes of the full leading blocks of `text`, each of everything up to its block's end."""
    hashes: list[int] = []
    value, start = root, 0
    for end in BOUNDS[: bisect_left(BOUNDS, len(text) + 1)]:
        value = crc32(text[start:end], value)
        hashes.append(value)
        start = end
    return tuple(hashes)


def tokens_in(request: RequestInfo, blocks: int) -> int:
    """About how many prompt tokens the first `blocks` blocks hold."""
    return min(BOUNDS[blocks - 1] // BYTES_PER_TOKEN, request.prompt_tokens) if blocks else 0


def affinity_keys(request: RequestInfo) -> tuple[int, ...]:
    """What replicas place a request by: its session, and the start of its prompt."""
    keys: tuple[int, ...] = (session_key(request),) if request.session else ()
    if request.prefix:
        keys += (prefix_key(request),)
    return keys


def prefix_key(request: RequestInfo) -> int:
    return request.prefix[min(AFFINITY_BLOCKS, len(request.prefix)) - 1]


def session_key(request: RequestInfo) -> int:
    return key_of(f"{request.tenant}\0{request.session}")
