"""The scheduler's rules, one by one."""

from tandem_worker.block_pool import BlockPool
from tandem_worker.kv_cache import KvCache
from tandem_worker.request import Request, SamplingParams
from tandem_worker.scheduler import Scheduler
from tandem_worker.sequence import Chunk, Sequence

BLOCK_SIZE = 4


def _scheduler(num_blocks: int = 32, max_num_seqs: int = 4, max_batched_tokens: int = 10) -> Scheduler:
    return Scheduler(KvCache(BlockPool(num_blocks), BLOCK_SIZE), max_num_seqs, max_batched_tokens)


def _seq(order: int, length: int) -> Sequence:
    request = Request(f"r{order}", tuple([order + 1] * length), SamplingParams(max_tokens=99))
    return Sequence(request, 0, order, 0.0)


def _plan(chunks: tuple[Chunk, ...]) -> list[tuple[int, int]]:
    return [(chunk.sequence.order, chunk.num_tokens) for chunk in chunks]


def _run(scheduler: Scheduler) -> list[tuple[int, int]]:
    """One step, with a token for every sequence that samples."""
    chunks = scheduler.schedule()
    plan = _plan(chunks)
    for chunk in chunks:
        samples = chunk.samples
        chunk.sequence.num_computed_tokens += chunk.num_tokens
        chunk.sequence.token_ids += [7] if samples else []
    return plan


def test_prompts_are_cut_to_the_budget_and_decodes_come_first() -> None:
    scheduler = _scheduler(max_batched_tokens=10)
    scheduler.add(_seq(0, 3))
    scheduler.add(_seq(1, 14))
    scheduler.add(_seq(2, 2))
    assert _run(scheduler) == [(0, 3), (1, 7)]
    assert _run(scheduler) == [(0, 1), (1, 7), (2, 2)]
    assert _run(scheduler) == [(0, 1), (1, 1), (2, 1)]


def test_no_more_run_than_there_are_seats() -> None:
    scheduler = _scheduler(max_num_seqs=2)
    for order in range(3):
        scheduler.add(_seq(order, 1))
    assert _run(scheduler) == [(0, 1), (1, 1)]
    scheduler.remove(scheduler.running[0])
    assert _run(scheduler) == [(1, 1), (2, 1)]


def test_nobody_overtakes_a_big_prompt_that_waits_for_blocks() -> None:
    scheduler = _scheduler(num_blocks=4)
    scheduler.add(_seq(0, 8))
    _run(scheduler)
    scheduler.add(_seq(1, 12))
    scheduler.add(_seq(2, 1))
    assert _run(scheduler) == [(0, 1)]


def test_the_youngest_gives_its_blocks_and_is_first_in_line_again() -> None:
    scheduler = _scheduler(num_blocks=4, max_batched_tokens=20)
    old, young, waiting = _seq(0, 7), _seq(1, 3), _seq(2, 1)
    scheduler.add(old)
    scheduler.add(young)
    _run(scheduler)
    assert len(scheduler.running) == 2
    scheduler.add(waiting)
    while not scheduler.num_preemptions:
        _run(scheduler)
    assert scheduler.running == [old]
    assert scheduler.waiting == [young, waiting]
    assert (young.block_ids, young.num_computed_tokens) == ([], 0)


def test_admission_leaves_a_block_for_each_running_sequence_to_grow_into() -> None:
    scheduler = _scheduler(num_blocks=4)
    scheduler.add(_seq(0, 6))
    scheduler.add(_seq(1, 5))
    assert _run(scheduler) == [(0, 6)]
    scheduler = _scheduler(num_blocks=5)
    scheduler.add(_seq(0, 6))
    scheduler.add(_seq(1, 4))
    assert _run(scheduler) == [(0, 6), (1, 4)]


def test_awaited_kv_has_a_seat_too() -> None:
    scheduler = _scheduler(max_num_seqs=2)
    scheduler.num_awaited = 1
    scheduler.add(_seq(0, 1))
    assert not scheduler.has_seat()
    scheduler.add(_seq(1, 1))
    assert _run(scheduler) == [(0, 1)]
    assert not scheduler.has_seat()
