import gzip
import math
from pathlib import Path
from random import Random

import pytest

from tandem_perf.latency import DecodeModel, LatencyModel, PrefillModel, TransferModel
from tandem_router.types import Endpoint, Role
from tandem_sim.clock import Clock
from tandem_sim.serving.cache import PrefixCache
from tandem_sim.serving.calls import Call, Load
from tandem_sim.serving.machine import Machine
from tandem_sim.serving.traces import read
from tandem_sim.serving.worker import Task, Worker

EXACT = LatencyModel(PrefillModel(0.01, 1e-4, 0.0), DecodeModel(0.01, 0.0, 0.0), TransferModel(0.05, 1e12))


def worker(clock: Clock, **limits: float) -> Worker:
    endpoint = Endpoint("w", "w", 8100, Role.DECODE, "decode", "sim", "sim", "1")
    return Worker(clock, endpoint, Machine(EXACT, noise=0.0, **limits), Random(1))  # type: ignore[arg-type]


class Seen:
    """When a task's first and last tokens came."""

    def __init__(self, clock: Clock, call: Call) -> None:
        self.first = self.end = math.inf
        self._clock = clock
        self.task = Task(call, first=self._first, end=self._end)

    def _first(self) -> None:
        self.first = self._clock.now

    def _end(self) -> None:
        self.end = self._clock.now


def test_a_prompt_takes_its_prefill_and_each_token_a_step() -> None:
    clock = Clock()
    seen = Seen(clock, Call(0.0, 900, 11))
    assert worker(clock).submit(seen.task)
    clock.run(10)
    assert (seen.first, seen.end) == pytest.approx((0.1, 0.2))


def test_streams_wait_while_a_prompt_is_computed_and_go_on_between_its_chunks() -> None:
    clock = Clock()
    serving = worker(clock, step_tokens=500)
    stream, prompt = Seen(clock, Call(0.0, 1, 5)), Seen(clock, Call(0.0, 990, 1))
    serving.submit(stream.task)
    clock.run(0.005)
    serving.submit(prompt.task)
    clock.run(10)
    assert prompt.first == pytest.approx(0.0101 + 0.0599 + 0.0591, abs=1e-3)
    assert stream.end == pytest.approx(prompt.first + 2 * 0.01, abs=1e-3)


def test_kv_memory_that_runs_out_delays_the_next_and_preempts_the_youngest() -> None:
    clock = Clock()
    serving = worker(clock, kv_tokens=250)
    seen = [Seen(clock, Call(0.0, 100, 40)) for _ in range(3)]
    for each in seen:
        serving.submit(each.task)
    clock.run(10)
    assert all(each.end < math.inf for each in seen)
    assert serving.preemptions >= 1
    assert serving.report().kv_used == 0.0
    assert seen[2].first > seen[0].first


def test_a_full_worker_refuses() -> None:
    clock = Clock()
    serving = worker(clock, max_running=2)
    assert [serving.submit(Seen(clock, Call(0.0, 10, 10)).task) for _ in range(3)] == [True, True, False]
    assert serving.refusals == 1


def test_kv_comes_from_the_peer_and_is_freed_there() -> None:
    clock = Clock()
    peer, serving = worker(clock), worker(clock)
    call = Call(0.0, 900, 3)
    held = Task(call, keeps=True)
    seen = Seen(clock, call)
    seen.task.from_peer, seen.task.peer_task = peer, held

    def hand_over() -> None:
        assert serving.submit(seen.task)

    held.end = hand_over
    peer.submit(held)
    clock.run(0.12)
    assert peer.report().kv_used != 0
    clock.run(10)
    assert peer.report().kv_used == serving.report().kv_used == 0
    assert seen.first == pytest.approx(0.1 + 0.05 + 0.01, abs=1e-3)


def test_cached_blocks_need_no_computing() -> None:
    clock = Clock()
    serving = worker(clock)
    first, again = (Seen(clock, Call(0.0, 1000, 1, (1, 2, 3), 300)) for _ in range(2))
    serving.submit(first.task)
    clock.run(1.0)
    assert serving.matched(again.task.call) == 900
    serving.submit(again.task)
    clock.run(2.0)
    assert again.first == pytest.approx(1.0 + 0.01 + 100e-4)


def test_the_cache_forgets_what_was_not_used_for_longest_the_ends_of_prompts_first() -> None:
    cache = PrefixCache(4 * 64)
    cache.insert((1, 2, 3), 64)
    cache.insert((7,), 64)
    cache.insert((1, 8), 64)
    assert [cache.match(blocks) for blocks in ((1, 2, 3), (7,), (1, 8))] == [2, 1, 2]


AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2023-11-16 18:15:46.6805900,374,44\n"
    "2023-11-16 18:15:50.9951690,396,109\n"
)
MOONCAKE = '{"timestamp": 3000, "input_length": 1100, "output_length": 500, "hash_ids": [0, 1, 2]}\n'
AGENTIC = (
    '{"s":"a","t":0.0,"in":200,"out":5,"think":0.0,"h":"1-3"}\n'
    '{"s":"b","t":0.0,"in":64,"out":5,"think":0.0,"h":"1"}\n'
    '{"s":"a","t":9.0,"in":300,"out":6,"think":2.5,"h":"1-3,9"}\n'
)


def load_of(tmp_path: Path, text: str, *, packed: bool = False) -> Load:
    path = tmp_path / ("trace.gz" if packed else "trace")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    return read(path)


def test_azure_rows_are_calls_by_the_clock(tmp_path: Path) -> None:
    calls = load_of(tmp_path, AZURE, packed=True).calls
    assert [(c.prompt_tokens, c.output_tokens) for c in calls] == [(374, 44), (396, 109)]
    assert calls[1].at - calls[0].at == pytest.approx(4.314579)


def test_mooncake_rows_are_spread_over_their_tick_and_have_whole_blocks_only(tmp_path: Path) -> None:
    (call,) = load_of(tmp_path, MOONCAKE).calls
    assert 3.0 <= call.at < 6.0
    assert (call.blocks, call.block_tokens) == ((0, 1), 512)


def test_agents_calls_follow_one_another_and_share_blocks_within_a_session_only(tmp_path: Path) -> None:
    first, second = load_of(tmp_path, AGENTIC).sessions
    assert [call.at for call in first] == [0.0, 2.5]
    assert first[1].blocks[:3] == first[0].blocks
    assert second[0].blocks[0] != first[0].blocks[0]


def test_other_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none of the formats"):
        load_of(tmp_path, '{"a": 1}\n')
