"""Which tokens to compute next: continuous batching, chunked prefill, first come first served. No torch."""

from bisect import insort
from operator import attrgetter

from tandem_worker.kv_cache import KvCache
from tandem_worker.sequence import Chunk, Sequence

_by_order = attrgetter("order")


class Scheduler:
    """Keeps running and waiting sequences, both in order of arrival.

    A running sequence has a seat (of `max_num_seqs`) and blocks for all its tokens. When one needs a block
    and none is free, the youngest running one loses its blocks and waits again, to be recomputed. A newcomer
    never overtakes: it is admitted when nobody waits before it, or, with KV from elsewhere, when it leaves
    room for who waits first.
    """

    def __init__(self, cache: KvCache, max_num_seqs: int, max_batched_tokens: int) -> None:
        self.cache = cache
        self.running: list[Sequence] = []
        self.waiting: list[Sequence] = []
        self.num_preemptions = 0
        self.num_awaited = 0
        self._max_num_seqs = max_num_seqs
        self._max_batched_tokens = max_batched_tokens

    def add(self, seq: Sequence) -> None:
        insort(self.waiting, seq, key=_by_order)

    def add_running(self, seq: Sequence) -> None:
        """Takes a sequence that has its blocks already (its KV came from another worker)."""
        insort(self.running, seq, key=_by_order)

    def remove(self, seq: Sequence) -> None:
        """Forgets a sequence, finished or aborted. Its blocks stay the caller's."""
        (self.running if seq in self.running else self.waiting).remove(seq)

    def has_seat(self) -> bool:
        """Whether one more sequence may run, besides the first waiting one."""
        return len(self.running) + self.num_awaited + bool(self.waiting) < self._max_num_seqs

    def has_room(self, num_free_after: int) -> bool:
        """Whether blocks may go to something that does not wait in line: `num_free_after` would be left then.

        Each running sequence keeps a block to grow into and the first waiting one what it needs.
        """
        claimed = sum(self.cache.num_blocks_for(seq.num_tokens) for seq in self.waiting[:1])
        return num_free_after >= len(self.running) + claimed

    def schedule(self) -> tuple[Chunk, ...]:
        """The next batch. Blocks are given and taken here; what counts as computed changes after the run."""
        chunks = self._decodes()
        budget = self._max_batched_tokens - len(chunks)
        chunks, budget = self._continue_prefills(chunks, budget)
        return tuple(self._admit(chunks, budget))

    def _decodes(self) -> list[Chunk]:
        """All sequences with one pending token, oldest first; before prefills, so that TPOT stays even."""
        decoding = [seq for seq in self.running if seq.num_pending_tokens == 1]
        return [Chunk(seq, 1) for seq in decoding if seq.block_ids and self._make_room(seq)]

    def _continue_prefills(self, chunks: list[Chunk], budget: int) -> tuple[list[Chunk], int]:
        for seq in self.running:
            if seq.num_pending_tokens > 1 and budget:
                chunks.append(Chunk(seq, min(budget, seq.num_pending_tokens)))
                budget -= chunks[-1].num_tokens
        return chunks, budget

    def _admit(self, chunks: list[Chunk], budget: int) -> list[Chunk]:
        while self.waiting and budget and len(self.running) + self.num_awaited < self._max_num_seqs:
            seq = self.waiting[0]
            if self.cache.num_free_after(seq) < len(self.running):
                break
            self.cache.allocate(seq)
            if seq.num_cached_tokens is None:
                seq.num_cached_tokens = seq.num_computed_tokens
            self.running.append(self.waiting.pop(0))
            chunks.append(Chunk(seq, min(budget, seq.num_pending_tokens)))
            budget -= chunks[-1].num_tokens
        self.running.sort(key=_by_order)
        return chunks

    def _make_room(self, seq: Sequence) -> bool:
        while not self.cache.grow(seq):
            victim = self.running[-1]
            self._preempt(victim)
            if victim is seq:
                return False
        return True

    def _preempt(self, seq: Sequence) -> None:
        self.running.remove(seq)
        self.cache.free(seq)
        self.num_preemptions += 1
        self.add(seq)
