"""The engine: schedule, run, take in the new tokens. Synchronous, for one thread; no I/O, no torch."""

from collections.abc import Callable, Sequence
from secrets import randbits

from tandem_worker.admission import check_request
from tandem_worker.block_pool import BlockPool
from tandem_worker.config import EngineConfig
from tandem_worker.errors import DuplicateRequestError, UnknownRequestError
from tandem_worker.handover import Handover
from tandem_worker.kv import BlockStored, HeldKv, KvEvent
from tandem_worker.kv_cache import KvCache
from tandem_worker.model_runner import ModelRunner
from tandem_worker.request import (
    EngineLoad,
    FinishReason,
    ImportPlan,
    Request,
    SampledToken,
    SeedToken,
    StepOutput,
    StepReport,
)
from tandem_worker.scheduler import Scheduler
from tandem_worker.sequence import Chunk
from tandem_worker.sequence import Sequence as Seq


def _new_seed() -> int:
    return randbits(64)


class Engine:
    """Runs requests to their end, one token for each decoding sequence and step.

    When `step` raises, the runner failed: the sequences are as before, so the step can be tried again, or the
    requests aborted.
    """

    def __init__(
        self,
        config: EngineConfig,
        runner: ModelRunner,
        clock: Callable[[], float],
        new_seed: Callable[[], int] = _new_seed,
    ) -> None:
        info = runner.info
        self.layout = info.layout
        self.block_size = info.layout.block_size
        self.num_blocks = info.num_blocks
        self.vocab_size = info.vocab_size
        self.max_model_len = info.max_model_len
        self.eos_token_ids = info.eos_token_ids
        self._runner = runner
        self._clock = clock
        self._new_seed = new_seed
        self._pool = BlockPool(info.num_blocks)
        self._cache = KvCache(self._pool, self.block_size, config.cache_salt)
        self._scheduler = Scheduler(self._cache, config.max_num_seqs, config.max_batched_tokens)
        self._handover = Handover(self._cache, self._scheduler)
        self._sequences: dict[str, Seq] = {}
        self._num_arrived = 0

    def add(self, request: Request) -> None:
        """Queues a request. Raises a `RequestError` when it can never run here."""
        self._scheduler.add(self._enter(request))

    def abort(self, request_id: str) -> bool:
        """Ends a waiting, running or awaited request and frees its blocks now; False when there is none.

        Held KV of a finished request stays: see `release_held`.
        """
        seq = self._sequences.pop(request_id, None)
        if seq is None:
            return False
        if not self._handover.cancel(request_id):
            self._scheduler.remove(seq)
            self._cache.free(seq)
        return True

    def has_work(self) -> bool:
        """Whether `step` may have something to do. It may still find no room: see `StepReport.is_idle`."""
        return bool(self._scheduler.running or self._scheduler.waiting)

    def step(self) -> StepReport:
        """Computes one batch and returns its tokens. Finished requests have left the engine by then."""
        chunks = self._scheduler.schedule()
        if not chunks:
            return StepReport()
        waits = self._queue_waits(chunks)
        num_decode = sum(chunk.sequence.is_decoding for chunk in chunks)
        tokens = self._runner.run(chunks)
        outputs = [self._advance(chunk, token) for chunk, token in zip(chunks, tokens, strict=True)]
        return StepReport(
            outputs=tuple(output for output in outputs if output is not None),
            num_prefill_tokens=sum(chunk.num_tokens for chunk in chunks) - num_decode,
            num_decode_tokens=num_decode,
            queue_waits=waits,
        )

    def held(self, request_id: str) -> HeldKv:
        """The prompt KV of a finished `hold_kv` request. Raises `UnknownRequestError`."""
        try:
            return self._handover.held[request_id]
        except KeyError:
            raise UnknownRequestError(f"no KV is held for request {request_id}") from None

    def release_held(self, request_id: str) -> bool:
        """Frees held KV; False when there is none."""
        return self._handover.release_held(request_id)

    def reserve(self, reservation_id: str, num_tokens: int) -> bool:
        """Sets blocks aside for a prompt that is prefilled elsewhere; False: no room now."""
        return self._handover.reserve(reservation_id, num_tokens)

    def release_reservation(self, reservation_id: str) -> bool:
        return self._handover.release_reservation(reservation_id)

    def plan_import(self, request: Request, reservation_id: str | None = None) -> ImportPlan | None:
        """Makes room for a prompt whose KV comes from another worker; None: no room now. Raises as `add`.

        Write the plan's blocks, then `commit_import`; or `cancel_import`. A used up reservation ends.
        """
        plan = self._handover.plan(self._enter(request), reservation_id)
        if plan is None:
            del self._sequences[request.request_id]
        return plan

    def commit_import(self, request_id: str, seed: SeedToken | None) -> StepReport:
        """Starts decoding: the prompt's KV has been written. Raises `UnknownRequestError`.

        The seed token is the first output, at once; without one the last prompt token is computed here.
        """
        seq = self._handover.commit(request_id, has_seed=seed is not None)
        return StepReport(outputs=(self._append(seq, seed),) if seed is not None else ())

    def cancel_import(self, request_id: str) -> bool:
        """Gives an awaited import up and frees its blocks; False when there is none."""
        return request_id in self._handover.imports and self.abort(request_id)

    def read_blocks(self, block_ids: Sequence[int]) -> bytes:
        """The KV of blocks, [num_layers, 2, len(block_ids), block_size, num_kv_heads, head_dim], C order."""
        return self._runner.read_blocks(block_ids)

    def write_blocks(self, block_ids: Sequence[int], data: bytes | bytearray | memoryview) -> None:
        """Fills blocks with what `read_blocks` gave elsewhere. Raises `KvDataError` for a wrong size."""
        self._runner.write_blocks(block_ids, data)

    def load(self) -> EngineLoad:
        running, waiting = self._scheduler.running, self._scheduler.waiting
        prefilling = [seq for seq in running if not seq.is_decoding]
        return EngineLoad(
            num_running=len(running),
            num_waiting=len(waiting),
            prefill_backlog_tokens=sum(seq.num_pending_tokens for seq in [*prefilling, *waiting]),
            kv_blocks_used=self._pool.num_used,
            kv_blocks_cached=self._pool.num_cached,
            kv_blocks_total=self._pool.num_blocks,
            num_preemptions=self._scheduler.num_preemptions,
        )

    def cached_blocks(self) -> list[BlockStored]:
        """What the prefix cache holds now: where a new listener to the events starts."""
        return self._pool.cached()

    def drain_kv_events(self) -> list[KvEvent]:
        """Changes of the prefix cache since the last call; bounded, see `BlockPool.drain_events`."""
        return self._pool.drain_events()

    def check_integrity(self) -> None:
        """Raises AssertionError when a block is lost or has another number of references than of owners."""
        sequences = [block_id for seq in self._sequences.values() for block_id in seq.block_ids]
        self._pool.check_integrity([*sequences, *self._handover.block_ids()])

    def _enter(self, request: Request) -> Seq:
        check_request(request, self.vocab_size, self.max_model_len)
        if request.request_id in self._sequences or request.request_id in self._handover.held:
            raise DuplicateRequestError(f"request {request.request_id} is here already")
        seed = request.sampling.seed
        seq = Seq(request, self._new_seed() if seed is None else seed, self._num_arrived, self._clock())
        self._num_arrived += 1
        self._sequences[request.request_id] = seq
        return seq

    def _queue_waits(self, chunks: Sequence[Chunk]) -> tuple[float, ...]:
        now = self._clock()
        started = [chunk.sequence for chunk in chunks if not chunk.sequence.has_started]
        for seq in started:
            seq.has_started = True
        return tuple(now - seq.arrived_at for seq in started)

    def _advance(self, chunk: Chunk, token: SampledToken | None) -> StepOutput | None:
        seq = chunk.sequence
        seq.num_computed_tokens += chunk.num_tokens
        self._cache.register_computed(seq)
        return None if token is None else self._append(seq, token)

    def _append(self, seq: Seq, token: SampledToken) -> StepOutput:
        seq.token_ids.append(token.token_id)
        reason = self._finish_reason(seq)
        if reason is not None:
            self._finish(seq)
        return StepOutput(seq.request_id, token.token_id, token.logprobs, reason, seq.num_cached_tokens or 0)

    def _finish_reason(self, seq: Seq) -> FinishReason | None:
        token_id, sampling = seq.token_ids[-1], seq.sampling
        ends = token_id in self.eos_token_ids and not sampling.ignore_eos
        if ends or token_id in sampling.stop_token_ids:
            return FinishReason.STOP
        if seq.num_output_tokens >= sampling.max_tokens or seq.num_tokens >= self.max_model_len:
            return FinishReason.LENGTH
        return None

    def _finish(self, seq: Seq) -> None:
        del self._sequences[seq.request_id]
        self._scheduler.remove(seq)
        if seq.request.hold_kv:
            self._handover.hold(seq)
        else:
            self._cache.free(seq)
