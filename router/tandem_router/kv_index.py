"""Which worker has which blocks of which prompts cached, from their KV events. Pure.

Blocks are known by our own chained hashes of token ids, so engines may hash as they like (as llm-d does).
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tandem_router.kv_events import BlockName, Cleared, KvEvent, Removed, Stored
from tandem_router.kv_keys import block_key, root_key, token_keys

SPECULATION_SECONDS = 2.0
"""What was just sent to a worker counts as cached there for so long; by then its events tell."""
CAPACITY = 1 << 19


@dataclass(slots=True)
class _Block:
    key: int
    media: set[str]


@dataclass(slots=True)
class _Cache:
    """One worker's blocks, the oldest first. `size`: tokens in a block."""

    blocks: OrderedDict[BlockName, _Block] = field(default_factory=OrderedDict)
    size: int = 0


class KvIndex:
    """Holds at most `capacity` blocks, shared out evenly; a worker's oldest are forgotten first."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._caches: dict[str, _Cache] = {}
        self._holders: dict[int, dict[str, int]] = {}
        self._sizes: Counter[int] = Counter()
        self._expected: deque[tuple[float, str, Sequence[int]]] = deque()

    def __len__(self) -> int:
        return sum(len(cache.blocks) for cache in self._caches.values())

    def covers(self, worker: str) -> bool:
        """Whether the worker tells what it has cached."""
        return worker in self._caches

    def apply(self, worker: str, model: str, event: KvEvent) -> None:
        """The worker tells of a change. A block whose parent is unknown cannot be placed, and is left out."""
        match event:
            case Stored():
                self._store(worker, model, event)
            case Removed(blocks, medium):
                self._remove(worker, blocks, medium)
            case Cleared():
                self.forget(worker)
                self._caches[worker] = _Cache()

    def forget(self, worker: str) -> None:
        cache = self._caches.pop(worker, None)
        if cache is not None:
            self._sizes -= Counter([cache.size])
            for block in cache.blocks.values():
                self._drop(block.key, worker)

    def expect(self, worker: str, token_ids: Sequence[int], root: int, salt: str, now: float) -> None:
        """The worker was sent this prompt, and will have it cached."""
        cache = self._caches.get(worker)
        if cache is not None and cache.size:
            keys = list(token_keys(token_ids, cache.size, root, salt))
            self._expected.append((now + SPECULATION_SECONDS, worker, keys))
            for key in keys:
                self._add(key, worker)

    def match(self, token_ids: Sequence[int], root: int, salt: str, now: float) -> dict[str, int]:
        """Worker -> how many leading tokens of the prompt are in full blocks that it has cached."""
        self._expire(now)
        found: dict[str, int] = {}
        for size in self._sizes:
            self._walk(token_keys(token_ids, size, root, salt), size, found)
        return found

    def check_integrity(self) -> None:
        """Raises AssertionError if the two directions of the index disagree or it is too large."""
        counted: dict[int, Counter[str]] = {}
        for worker, cache in self._caches.items():
            if len(cache.blocks) > self._share():
                raise AssertionError(f"{worker} has {len(cache.blocks)} blocks, {self._share()} allowed")
            for block in cache.blocks.values():
                counted.setdefault(block.key, Counter())[worker] += 1
        for _, worker, keys in self._expected:
            for key in keys:
                counted.setdefault(key, Counter())[worker] += 1
        if counted != self._holders:
            raise AssertionError("blocks and their holders disagree")
        if Counter(cache.size for cache in self._caches.values() if cache.size) != self._sizes:
            raise AssertionError("block sizes are counted wrongly")

    def _walk(self, keys: Iterable[int], size: int, found: dict[str, int]) -> None:
        active: set[str] | None = None
        depth = -1
        for depth, key in enumerate(keys):
            holders = self._holders.get(key)
            if holders is None:
                still: set[str] = set()
            elif active is None:
                still = set(holders)
            elif active == holders.keys():
                continue
            else:
                still = active & holders.keys()
            if active is not None and len(still) < len(active):
                found.update((worker, depth * size) for worker in active - still)
            active = still
            if not active:
                return
        found.update((worker, (depth + 1) * size) for worker in active or ())

    def _store(self, worker: str, model: str, event: Stored) -> None:
        cache = self._caches.setdefault(worker, _Cache())
        parent = None if event.parent is None else cache.blocks.get(event.parent)
        if event.parent is not None and parent is None:
            return
        self._resize(worker, event.block_size)
        key = root_key(model, event.adapter) if parent is None else parent.key
        for index, name in enumerate(event.blocks):
            start = index * event.block_size
            ids = event.token_ids[start : start + event.block_size]
            key = block_key(key, ids, event.extra[index] if index < len(event.extra) else ())
            self._place(worker, cache, name, key, event.medium)
        while len(cache.blocks) > self._share():
            _, oldest = cache.blocks.popitem(last=False)
            self._drop(oldest.key, worker)

    def _place(self, worker: str, cache: _Cache, name: BlockName, key: int, medium: str) -> None:
        block = cache.blocks.get(name)
        if block is None:
            cache.blocks[name] = _Block(key, {medium})
            self._add(key, worker)
            return
        block.media.add(medium)
        cache.blocks.move_to_end(name)
        if block.key != key:
            self._drop(block.key, worker)
            block.key = key
            self._add(key, worker)

    def _remove(self, worker: str, names: Iterable[BlockName], medium: str) -> None:
        cache = self._caches.get(worker)
        if cache is None:
            return
        for name in names:
            block = cache.blocks.get(name)
            if block is None:
                continue
            block.media.discard(medium)
            if not block.media:
                del cache.blocks[name]
                self._drop(block.key, worker)

    def _resize(self, worker: str, size: int) -> None:
        cache = self._caches[worker]
        self._sizes[cache.size] -= 1
        cache.size = size
        self._sizes[size] += 1
        self._sizes = +self._sizes

    def _share(self) -> int:
        return max(1, self._capacity // max(1, len(self._caches)))

    def _add(self, key: int, worker: str) -> None:
        holders = self._holders.get(key)
        if holders is None:
            self._holders[key] = {worker: 1}
        else:
            holders[worker] = holders.get(worker, 0) + 1

    def _drop(self, key: int, worker: str) -> None:
        holders = self._holders[key]
        if holders[worker] > 1:
            holders[worker] -= 1
            return
        del holders[worker]
        if not holders:
            del self._holders[key]

    def _expire(self, now: float) -> None:
        while self._expected and self._expected[0][0] <= now:
            _, worker, keys = self._expected.popleft()
            for key in keys:
                self._drop(key, worker)
