"""Paged KV blocks: reference counts, a prefix cache over full blocks, LRU eviction. No torch."""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence

from tandem_worker.kv import AllBlocksCleared, BlocksRemoved, BlockStored, KvEvent


class BlockPool:
    """Hands out block ids. A block is used (referenced) or free; a free one may still be cached.

    Cached free blocks are evicted only when no other free block is left, the least recently released first.
    """

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self._num_refs = [0] * num_blocks
        self._stored: list[BlockStored | None] = [None] * num_blocks
        self._by_hash: dict[bytes, int] = {}
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(num_blocks))
        self._events: list[KvEvent] = []

    @property
    def num_free(self) -> int:
        """Blocks that `allocate` can give, cached ones included."""
        return len(self._free)

    @property
    def num_used(self) -> int:
        return self.num_blocks - len(self._free)

    @property
    def num_cached(self) -> int:
        """Blocks under a hash, used or free."""
        return len(self._by_hash)

    def match(self, hashes: Iterable[bytes]) -> list[int]:
        """The blocks of the longest cached prefix. Changes nothing: `acquire` them before any `allocate`."""
        block_ids: list[int] = []
        for block_hash in hashes:
            block_id = self._by_hash.get(block_hash)
            if block_id is None:
                break
            block_ids.append(block_id)
        return block_ids

    def num_free_after(self, matched: Sequence[int], num_new: int) -> int:
        """Free blocks after `acquire(matched)` and `allocate(num_new)`; negative when they do not fit."""
        return len(self._free) - num_new - sum(self._num_refs[block_id] == 0 for block_id in matched)

    def acquire(self, block_ids: Iterable[int]) -> None:
        """Adds a reference to each block, used or cached."""
        for block_id in block_ids:
            if self._num_refs[block_id] == 0:
                del self._free[block_id]
            self._num_refs[block_id] += 1

    def allocate(self, num_blocks: int) -> list[int]:
        """Takes free blocks, with one reference each. IndexError when short: the caller checks `num_free`."""
        if num_blocks > len(self._free):
            raise IndexError(f"{num_blocks} blocks asked of {len(self._free)} free ones")
        block_ids = [self._free.popitem(last=False)[0] for _ in range(num_blocks)]
        self._evict(block_ids)
        for block_id in block_ids:
            self._num_refs[block_id] = 1
        return block_ids

    def release(self, block_ids: Sequence[int]) -> None:
        """Drops a reference from each block of a sequence, last first: prefixes outlive their ends."""
        for block_id in reversed(block_ids):
            if self._num_refs[block_id] == 0:
                raise ValueError(f"block {block_id} is free already")
            self._num_refs[block_id] -= 1
            if self._num_refs[block_id] == 0:
                self._free[block_id] = None
                self._free.move_to_end(block_id, last=self._stored[block_id] is not None)

    def register(self, block_id: int, block: BlockStored) -> None:
        """Enters a used, computed block into the prefix cache. A second one with the same hash stays out."""
        if block.block_hash in self._by_hash or self._stored[block_id] is not None:
            return
        self._by_hash[block.block_hash] = block_id
        self._stored[block_id] = block
        self._emit(block)

    def cached(self) -> list[BlockStored]:
        """All blocks under a hash, in the order in which they were stored."""
        return [block for block_id in self._by_hash.values() if (block := self._stored[block_id]) is not None]

    def drain_events(self) -> list[KvEvent]:
        """The changes of the prefix cache since the last call.

        At most two for each block of the pool: if more happened, `AllBlocksCleared` and what is cached now
        stand for them.
        """
        events, self._events = self._events, []
        return events

    def check_integrity(self, owned: Iterable[int]) -> None:
        """Raises AssertionError unless the references are those of `owned`, an id for each, all other blocks
        are free, and the hash index is right.
        """
        owners = Counter(owned)
        for block_id, num_refs in enumerate(self._num_refs):
            is_free = block_id in self._free
            if num_refs != owners[block_id] or is_free != (num_refs == 0):
                found = f"{num_refs} references, {owners[block_id]} owners, free: {is_free}"
                raise AssertionError(f"block {block_id}: {found}")
        stored = {
            block.block_hash: block_id for block_id, block in enumerate(self._stored) if block is not None
        }
        if stored != self._by_hash:
            raise AssertionError("the hash index and the blocks disagree")

    def _evict(self, block_ids: Iterable[int]) -> None:
        evicted: list[bytes] = []
        for block_id in block_ids:
            block = self._stored[block_id]
            if block is not None:
                self._stored[block_id] = None
                del self._by_hash[block.block_hash]
                evicted.append(block.block_hash)
        if evicted:
            self._emit(BlocksRemoved(tuple(evicted)))

    def _emit(self, event: KvEvent) -> None:
        self._events.append(event)
        if len(self._events) > 2 * self.num_blocks:
            self._events = [AllBlocksCleared(), *self.cached()]
