"""A prompt's leading text as chained hashes, without tokenising. Pure; alike in every process and version."""

from tandem_router.rendezvous import key_of
from tandem_router.types import RequestInfo

AFFINITY_BLOCKS = 4
"""Prompts that share so many leading blocks belong to the same workers."""


def affinity_keys(request: RequestInfo) -> tuple[int, ...]:
    """What replicas place a request by: its session, and the start of its prompt."""
    keys: tuple[int, ...] = (key_of(request.session),) if request.session else ()
    if request.prefix:
        keys += (request.prefix[min(AFFINITY_BLOCKS, len(request.prefix)) - 1],)
    return keys
