"""An engine's prefix cache: full blocks by their chained hashes, the least recently used given up first."""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stored:
    """Blocks that are cached from now on, the first of them after `parent` (None: at the prompt's start)."""

    hashes: tuple[bytes, ...]
    parent: bytes | None
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Removed:
    hashes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Cleared:
    pass


CacheEvent = Stored | Removed | Cleared


class PrefixCache:
    """`capacity` is in blocks; 0 means no limit."""

    def __init__(self, block_size: int, capacity: int) -> None:
        self.block_size = block_size
        self._capacity = capacity
        self._blocks: OrderedDict[bytes, None] = OrderedDict()
        self.queried_tokens = 0
        self.hit_tokens = 0

    def __len__(self) -> int:
        return len(self._blocks)

    def look(self, token_ids: Sequence[int]) -> int:
        """How many leading tokens are cached; the last one of a prompt is always computed."""
        hits = 0
        for name in self.names(token_ids):
            if name not in self._blocks:
                break
            self._blocks.move_to_end(name)
            hits += 1
        cached = min(hits * self.block_size, max(len(token_ids) - 1, 0))
        self.queried_tokens += len(token_ids)
        self.hit_tokens += cached
        return cached

    def store(self, token_ids: Sequence[int]) -> list[CacheEvent]:
        """Caches a prompt's full blocks; what is new, and what had to go for it."""
        names = self.names(token_ids)
        first = next((i for i, name in enumerate(names) if name not in self._blocks), len(names))
        events: list[CacheEvent] = []
        if first < len(names):
            ids = tuple(token_ids[first * self.block_size : len(names) * self.block_size])
            events.append(Stored(tuple(names[first:]), names[first - 1] if first else None, ids))
        for name in names:
            self._blocks[name] = None
            self._blocks.move_to_end(name)
        removed = []
        while self._capacity and len(self._blocks) > self._capacity:
            removed.append(self._blocks.popitem(last=False)[0])
        if removed:
            events.append(Removed(tuple(removed)))
        return events

    def clear(self) -> list[CacheEvent]:
        self._blocks.clear()
        return [Cleared()]

    def names(self, token_ids: Sequence[int]) -> list[bytes]:
        """The hashes of the full blocks, each over its parent's hash and its own ids."""
        found, parent = [], b""
        for end in range(self.block_size, len(token_ids) + 1, self.block_size):
            ids = token_ids[end - self.block_size : end]
            parent = hashlib.sha256(parent + b"".join(i.to_bytes(8, "big") for i in ids)).digest()
            found.append(parent)
        return found
