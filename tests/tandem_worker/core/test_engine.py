"""The engine over a hashing device: what a request gets back, and what it leaves behind."""

from collections.abc import Callable
from typing import Any

import pytest

from tandem_worker.errors import DuplicateRequestError, InvalidRequestError, RequestTooLongError
from tandem_worker.request import FinishReason, Request, SamplingParams

Make = Callable[..., Any]


def test_a_request_gets_the_same_tokens_alone_and_in_company(
    make_bench: Make, make_request: Make, expected_tokens: Make
) -> None:
    bench = make_bench(64)
    requests = [make_request(f"r{i}", range(1, 2 + 3 * i), max_tokens=9) for i in range(9)]
    for request in requests:
        bench.engine.add(request)
    bench.run()
    for request in requests:
        assert bench.tokens(request.request_id) == expected_tokens(request, 256)
    assert bench.engine.load().kv_blocks_used == 0


def test_preempted_requests_are_recomputed_to_the_same_tokens(
    make_bench: Make, make_request: Make, expected_tokens: Make
) -> None:
    bench = make_bench(12, max_num_seqs=4, max_batched_tokens=16)
    requests = [make_request(f"r{i}", [i + 1] * 8, max_tokens=20) for i in range(6)]
    for request in requests:
        bench.engine.add(request)
    bench.run()
    assert bench.engine.load().num_preemptions > 0
    for request in requests:
        assert bench.tokens(request.request_id) == expected_tokens(request, 48)


def test_a_finish_by_length_by_stop_token_and_by_the_models_length(
    make_bench: Make, make_request: Make
) -> None:
    bench = make_bench(3)
    bench.engine.add(make_request("length", [5, 6], max_tokens=3))
    bench.run()
    first = bench.tokens("length")[0]
    stop = SamplingParams(max_tokens=50, temperature=0.0, stop_token_ids=frozenset({first}))
    bench.engine.add(Request("stop", (5, 6), stop))
    bench.run()
    bench.engine.add(make_request("full", [5, 6, 7, 8, 9], max_tokens=50))
    bench.run()
    assert [output.finish_reason for output in bench.outputs["length"]] == [None, None, FinishReason.LENGTH]
    assert [output.finish_reason for output in bench.outputs["stop"]] == [FinishReason.STOP]
    assert bench.engine.load().num_preemptions == 0
    last = bench.outputs["full"][-1]
    assert last.token_id == 0 or len(bench.outputs["full"]) == bench.engine.max_model_len - 5


def test_the_end_token_ends_a_request_unless_it_is_to_be_ignored(
    make_bench: Make, expected_tokens: Make
) -> None:
    bench = make_bench(32)
    prompt = next(
        prompt
        for prompt in ((1, n) for n in range(50))
        if 1 < len(expected_tokens(Request("r", prompt, SamplingParams(30, 0.0)), 128)) < 30
    )
    for ignore_eos in (False, True):
        bench.engine.add(Request(str(ignore_eos), prompt, SamplingParams(30, 0.0, ignore_eos=ignore_eos)))
        bench.run()
    assert bench.outputs["False"][-1].finish_reason is FinishReason.STOP
    assert bench.tokens("False")[-1] == 0
    assert len(bench.tokens("True")) == 30


def test_a_second_prompt_reuses_the_firsts_prefix(make_bench: Make, make_request: Make) -> None:
    bench = make_bench(16)
    bench.engine.add(make_request("a", range(1, 11)))
    bench.run()
    bench.engine.add(make_request("b", [*range(1, 9), 20, 21]))
    bench.run()
    assert bench.outputs["a"][0].num_cached_tokens == 0
    assert bench.outputs["b"][0].num_cached_tokens == 8


def test_a_prompt_that_is_cached_whole_still_computes_its_last_block(
    make_bench: Make, make_request: Make
) -> None:
    bench = make_bench(16)
    for name in ("a", "b"):
        bench.engine.add(make_request(name, range(1, 9)))
        bench.run()
    assert bench.outputs["b"][0].num_cached_tokens == 4
    assert bench.tokens("a") == bench.tokens("b")


def test_first_tokens_come_in_order_of_arrival(make_bench: Make, make_request: Make) -> None:
    bench = make_bench(40, max_num_seqs=3)
    for i in range(8):
        bench.engine.add(make_request(f"r{i}", [1 + i] * (1 + 11 * i % 30), max_tokens=6))
    bench.run()
    assert list(bench.outputs) == [f"r{i}" for i in range(8)]


def test_decodes_go_on_while_a_long_prompt_is_prefilled_in_chunks(
    make_bench: Make, make_request: Make
) -> None:
    bench = make_bench(64, max_batched_tokens=8)
    bench.engine.add(make_request("short", [1, 2, 3], max_tokens=40))
    bench.step()
    bench.engine.add(make_request("long", [4] * 70, max_tokens=1))
    before = len(bench.tokens("short"))
    for _ in range(3):
        report = bench.engine.step()
        bench.take(report.outputs)
        assert (report.num_decode_tokens, report.num_prefill_tokens) == (1, 7)
    assert len(bench.tokens("short")) == before + 3
    assert bench.engine.load().prefill_backlog_tokens == 70 - 21


def test_the_queue_wait_of_a_request_is_reported_once(make_bench: Make, make_request: Make) -> None:
    bench = make_bench(64, max_num_seqs=1)
    bench.engine.add(make_request("a", [1] * 20, max_tokens=2))
    bench.engine.add(make_request("b", [2], max_tokens=1))
    waits: list[float] = []
    while bench.engine.has_work():
        bench.now += 1.0
        waits += bench.engine.step().queue_waits
    assert waits[0] == 1.0
    assert len(waits) == 2
    assert waits[1] > 2.0


@pytest.mark.parametrize("num_steps", [0, 1, 3])
def test_an_aborted_request_frees_its_blocks_at_once(
    make_bench: Make, make_request: Make, num_steps: int
) -> None:
    bench = make_bench(16)
    bench.engine.add(make_request("a", [1] * 12, max_tokens=30))
    for _ in range(num_steps):
        bench.step()
    assert bench.engine.abort("a")
    assert not bench.engine.abort("a")
    assert bench.engine.load().kv_blocks_used == 0
    assert not bench.engine.has_work()
    bench.engine.check_integrity()


def test_only_what_was_computed_of_an_aborted_prompt_is_reused(
    make_bench: Make, make_request: Make, expected_tokens: Make
) -> None:
    bench = make_bench(16, max_batched_tokens=8)
    bench.engine.add(make_request("aborted", range(1, 22)))
    bench.step()
    bench.engine.abort("aborted")
    request = make_request("again", range(1, 22))
    bench.engine.add(request)
    bench.run()
    assert bench.outputs["again"][0].num_cached_tokens == 8
    assert bench.tokens("again") == expected_tokens(request, 64)


def test_what_can_never_run_is_refused_and_leaves_nothing(make_bench: Make, make_request: Make) -> None:
    engine = make_bench(4).engine
    engine.add(make_request("twice", [1]))
    with pytest.raises(RequestTooLongError, match="16 tokens"):
        engine.add(make_request("long", [1] * 16))
    with pytest.raises(InvalidRequestError, match="empty"):
        engine.add(make_request("empty", []))
    with pytest.raises(InvalidRequestError, match="vocabulary"):
        engine.add(make_request("unknown", [50]))
    with pytest.raises(DuplicateRequestError, match="twice"):
        engine.add(make_request("twice", [1]))
    assert engine.load().num_waiting == 1


@pytest.mark.parametrize(
    "bad",
    [
        {"max_tokens": 0},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_k": -1},
        {"min_p": 2.0},
        {"repetition_penalty": 0.0},
        {"presence_penalty": float("inf")},
        {"num_logprobs": -1},
    ],
)
def test_impossible_sampling_is_refused_by_name(make_bench: Make, bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match=next(iter(bad))):
        make_bench(4).engine.add(Request("r", (1,), SamplingParams(**{"max_tokens": 1, **bad})))


def test_a_step_that_fails_can_be_tried_again(
    make_bench: Make, make_request: Make, expected_tokens: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench(8)
    request = make_request("a", [1, 2, 3, 4, 5])
    bench.engine.add(request)
    bench.step()
    with monkeypatch.context() as patch:
        patch.setattr(bench.runner, "slots", None)
        with pytest.raises(TypeError):
            bench.engine.step()
    bench.run()
    assert bench.tokens("a") == expected_tokens(request, 32)


def test_no_room_makes_an_idle_step_until_blocks_are_released(make_bench: Make, make_request: Make) -> None:
    bench = make_bench(4)
    bench.engine.add(make_request("held", [1] * 12, max_tokens=1, hold_kv=True))
    bench.run()
    bench.engine.add(make_request("next", [2] * 8, max_tokens=1))
    assert bench.engine.step().is_idle
    assert bench.engine.has_work()
    bench.engine.release_held("held")
    bench.run()
    assert len(bench.tokens("next")) == 1
