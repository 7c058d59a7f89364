"""KV between two workers: held for another one, awaited from another one, or reserved for it. No torch."""

from dataclasses import dataclass, field

from tandem_worker.errors import UnknownRequestError
from tandem_worker.kv import HeldKv
from tandem_worker.kv_cache import KvCache
from tandem_worker.request import ImportPlan
from tandem_worker.scheduler import Scheduler
from tandem_worker.sequence import Sequence


@dataclass(slots=True)
class Handover:
    """The blocks that are used without running. An awaited sequence also has a seat of the scheduler."""

    cache: KvCache
    scheduler: Scheduler
    held: dict[str, HeldKv] = field(default_factory=dict)
    imports: dict[str, Sequence] = field(default_factory=dict)
    reserved: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def block_ids(self) -> list[int]:
        """All blocks that are held or reserved; those of an awaited sequence are its own."""
        owners = [*(held.block_ids for held in self.held.values()), *self.reserved.values()]
        return [block_id for block_ids in owners for block_id in block_ids]

    def hold(self, seq: Sequence) -> None:
        """Keeps the blocks of a finished sequence's prompt and frees its other ones."""
        num_blocks = self.cache.num_blocks_for(seq.num_prompt_tokens)
        prompt, rest = seq.block_ids[:num_blocks], seq.block_ids[num_blocks:]
        self.cache.pool.release(rest)
        self.held[seq.request_id] = HeldKv(tuple(prompt), seq.num_prompt_tokens)

    def release_held(self, request_id: str) -> bool:
        held = self.held.pop(request_id, None)
        if held is not None:
            self.cache.pool.release(held.block_ids)
        return held is not None

    def reserve(self, reservation_id: str, num_tokens: int) -> bool:
        """Takes blocks for a prompt of `num_tokens` that is prefilled elsewhere; False: no room now."""
        num_blocks = self.cache.num_blocks_for(num_tokens)
        if reservation_id in self.reserved:
            return len(self.reserved[reservation_id]) >= num_blocks
        if not self.scheduler.has_room(self.cache.pool.num_free - num_blocks):
            return False
        self.reserved[reservation_id] = tuple(self.cache.pool.allocate(num_blocks))
        return True

    def release_reservation(self, reservation_id: str) -> bool:
        block_ids = self.reserved.pop(reservation_id, None)
        if block_ids is not None:
            self.cache.pool.release(block_ids)
        return block_ids is not None

    def plan(self, seq: Sequence, reservation_id: str | None) -> ImportPlan | None:
        """Gives an import its seat and blocks, the reservation's first; None: no room now."""
        reserved = self.reserved.get(reservation_id, ()) if reservation_id is not None else ()
        num_free_after = self.cache.num_free_after(seq) + len(reserved)
        covered = len(reserved) >= self.cache.num_blocks_for(seq.num_tokens)
        if not self.scheduler.has_seat() or not (covered or self.scheduler.has_room(num_free_after)):
            return None
        if reservation_id is not None:
            self.reserved.pop(reservation_id, None)
        first_block = self.cache.allocate(seq, reserved)
        self.imports[seq.request_id] = seq
        self.scheduler.num_awaited += 1
        return ImportPlan(seq.request_id, tuple(seq.block_ids[first_block:]), first_block)

    def commit(self, request_id: str, has_seed: bool) -> Sequence:
        """The awaited KV is there: the sequence runs. Without a seed its last token is computed again."""
        seq = self._take(request_id)
        if seq is None:
            raise UnknownRequestError(f"no import of request {request_id} is under way")
        seq.num_computed_tokens = seq.num_prompt_tokens - (not has_seed)
        seq.num_cached_tokens = seq.num_computed_tokens
        seq.has_started = True
        self.cache.register_computed(seq)
        self.scheduler.add_running(seq)
        return seq

    def cancel(self, request_id: str) -> bool:
        seq = self._take(request_id)
        if seq is not None:
            self.cache.free(seq)
        return seq is not None

    def _take(self, request_id: str) -> Sequence | None:
        seq = self.imports.pop(request_id, None)
        if seq is not None:
            self.scheduler.num_awaited -= 1
        return seq
