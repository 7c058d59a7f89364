"""The recent changes of the prefix cache, numbered, for listeners that come late or fall behind. Pure."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from tandem_worker.kv import AllBlocksCleared, BlocksRemoved, BlockStored, KvEvent

SNAPSHOT_EVENTS = 1024


@dataclass(frozen=True, slots=True)
class KvEventBatch:
    """Events in order; the next batch has `sequence` + 1."""

    sequence: int
    events: tuple[KvEvent, ...]


class KvEventLog:
    """Keeps the last `capacity` batches, and what is cached now for those who need more than that.

    `first_sequence` must grow from one engine to the next: a number of an earlier engine must never be taken
    for one of this engine's.
    """

    def __init__(self, capacity: int, first_sequence: int) -> None:
        self._batches: deque[KvEventBatch] = deque(maxlen=capacity)
        self._cached: dict[bytes, BlockStored] = {}
        self._next = first_sequence

    @property
    def next_sequence(self) -> int:
        return self._next

    def append(self, events: Iterable[KvEvent]) -> None:
        batch = KvEventBatch(self._next, tuple(events))
        self._batches.append(batch)
        self._next += 1
        for event in batch.events:
            self._apply(event)

    def since(self, sequence: int) -> list[KvEventBatch]:
        """The batches from `sequence` on, or, when some are gone, a snapshot, which begins by clearing all.

        The parts of a snapshot have the number of the last batch that they stand for.
        """
        oldest = self._batches[0].sequence if self._batches else self._next
        if oldest <= sequence <= self._next:
            return [batch for batch in self._batches if batch.sequence >= sequence]
        events: list[KvEvent] = [AllBlocksCleared(), *self._cached.values()]
        starts = range(0, len(events), SNAPSHOT_EVENTS)
        return [KvEventBatch(self._next - 1, tuple(events[at : at + SNAPSHOT_EVENTS])) for at in starts]

    def _apply(self, event: KvEvent) -> None:
        match event:
            case BlockStored():
                self._cached[event.block_hash] = event
            case BlocksRemoved():
                for block_hash in event.block_hashes:
                    self._cached.pop(block_hash, None)
            case AllBlocksCleared():
                self._cached.clear()
