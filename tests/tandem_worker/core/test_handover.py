"""KV held, reserved and imported, between engines over hashing devices."""

from collections.abc import Callable
from typing import Any

import pytest

from tandem_worker.errors import DuplicateRequestError, UnknownRequestError
from tandem_worker.request import FinishReason, SeedToken

Make = Callable[..., Any]


def _prefill(bench: Any, request_id: str, prompt: list[int], make_request: Make) -> SeedToken:
    bench.engine.add(make_request(request_id, prompt, max_tokens=1, hold_kv=True))
    bench.run()
    return SeedToken(bench.tokens(request_id)[0])


def _pull(source: Any, target: Any, request_id: str, block_ids: tuple[int, ...], first_block: int) -> None:
    held = source.engine.held(request_id)
    target.engine.write_blocks(block_ids, source.engine.read_blocks(held.block_ids[first_block:]))


@pytest.mark.parametrize("has_seed", [True, False])
@pytest.mark.parametrize("num_warm", [0, 4, 9])
def test_a_handed_over_request_goes_on_with_the_same_tokens(
    make_bench: Make, make_request: Make, expected_tokens: Make, num_warm: int, has_seed: bool
) -> None:
    source, target = make_bench(16), make_bench(16)
    if num_warm:
        target.engine.add(make_request("warm", range(1, 1 + num_warm), max_tokens=1))
        target.run()
    for length in range(1, 14):
        name, prompt = f"r{length}", [*range(1, 1 + length)]
        request = make_request(name, prompt, max_tokens=6)
        seed = _prefill(source, name, prompt, make_request)
        plan = target.engine.plan_import(request)
        _pull(source, target, name, plan.block_ids, plan.first_block)
        target.take(target.engine.commit_import(name, seed if has_seed else None).outputs)
        assert source.engine.release_held(name)
        target.run()
        assert target.tokens(name) == expected_tokens(request, 64)
        assert target.outputs[name][0].num_cached_tokens == (length if has_seed else length - 1)
    assert source.engine.load().kv_blocks_used == target.engine.load().kv_blocks_used == 0


def test_a_plan_reuses_the_local_prefix(make_bench: Make, make_request: Make) -> None:
    bench = make_bench(16)
    bench.engine.add(make_request("warm", range(1, 12), max_tokens=1))
    bench.run()
    plan = bench.engine.plan_import(make_request("r", [*range(1, 9), 30, 31, 32, 33, 34]))
    assert plan.first_block == 2
    assert len(plan.block_ids) == 2


def test_an_imported_prompt_is_in_the_prefix_cache_from_its_commit_on(
    make_bench: Make, make_request: Make
) -> None:
    bench = make_bench(8)
    plan = bench.engine.plan_import(make_request("r", range(1, 10), max_tokens=1))
    bench.engine.write_blocks(plan.block_ids, bench.engine.read_blocks(plan.block_ids))
    assert bench.engine.cached_blocks() == []
    bench.engine.commit_import("r", SeedToken(9))
    assert [block.token_ids for block in bench.engine.cached_blocks()] == [(1, 2, 3, 4), (5, 6, 7, 8)]
    assert bench.engine.drain_kv_events() == bench.engine.cached_blocks()


@pytest.mark.parametrize(
    ("max_tokens", "token_id", "reason"),
    [(1, 9, FinishReason.LENGTH), (5, 0, FinishReason.STOP), (5, 9, None)],
)
def test_a_seed_token_can_end_the_request_at_once(
    make_bench: Make, make_request: Make, max_tokens: int, token_id: int, reason: FinishReason | None
) -> None:
    bench = make_bench(8)
    bench.engine.plan_import(make_request("r", [1, 2, 3], max_tokens=max_tokens))
    (output,) = bench.engine.commit_import("r", SeedToken(token_id)).outputs
    assert (output.token_id, output.finish_reason) == (token_id, reason)
    assert bench.engine.has_work() == (reason is None)
    assert (bench.engine.load().kv_blocks_used == 0) == (reason is not None)


def test_held_kv_is_only_the_prompts_and_ends_once(make_bench: Make, make_request: Make) -> None:
    bench = make_bench(16)
    bench.engine.add(make_request("r", [1] * 5, max_tokens=9, hold_kv=True))
    bench.run()
    held = bench.engine.held("r")
    assert held.num_tokens == 5
    assert len(held.block_ids) == bench.engine.load().kv_blocks_used == 2
    with pytest.raises(DuplicateRequestError):
        bench.engine.add(make_request("r", [1]))
    assert bench.engine.release_held("r")
    assert not bench.engine.release_held("r")
    assert bench.engine.load().kv_blocks_used == 0
    with pytest.raises(UnknownRequestError):
        bench.engine.held("r")


def test_an_aborted_request_holds_nothing(make_bench: Make, make_request: Make) -> None:
    bench = make_bench(16)
    bench.engine.add(make_request("r", [1] * 20, hold_kv=True))
    bench.step()
    bench.engine.abort("r")
    with pytest.raises(UnknownRequestError):
        bench.engine.held("r")


def test_a_cancelled_import_frees_its_blocks_and_never_reaches_the_cache(
    make_bench: Make, make_request: Make
) -> None:
    bench = make_bench(8)
    bench.engine.plan_import(make_request("r", range(1, 10)))
    assert bench.engine.load().kv_blocks_used == 3
    assert bench.engine.cancel_import("r")
    assert not bench.engine.cancel_import("r")
    assert bench.engine.load().kv_blocks_used == 0
    assert bench.engine.cached_blocks() == []
    with pytest.raises(UnknownRequestError):
        bench.engine.commit_import("r", None)
    bench.engine.plan_import(make_request("r", range(1, 10)))
    assert bench.engine.abort("r")
    assert bench.engine.load().kv_blocks_used == 0


def test_without_room_nothing_is_planned_and_nothing_changes(make_bench: Make, make_request: Make) -> None:
    bench = make_bench(4, max_num_seqs=2)
    assert bench.engine.plan_import(make_request("a", [1] * 12))
    assert bench.engine.plan_import(make_request("b", [2] * 8)) is None
    assert bench.engine.load().kv_blocks_used == 3
    assert bench.engine.plan_import(make_request("b", [2] * 4))
    bench.engine.check_integrity()
    assert bench.engine.plan_import(make_request("c", [2] * 4)) is None


def test_a_seat_is_enough_only_beside_who_waits_first(make_bench: Make, make_request: Make) -> None:
    bench = make_bench(8, max_num_seqs=4)
    bench.engine.add(make_request("waits", [1] * 20))
    assert bench.engine.plan_import(make_request("big", [2] * 16)) is None
    assert bench.engine.plan_import(make_request("small", [2] * 12))


def test_a_reservation_keeps_room_for_its_import(make_bench: Make, make_request: Make) -> None:
    bench = make_bench(5)
    assert bench.engine.reserve("lease", 12)
    assert bench.engine.reserve("lease", 12)
    assert bench.engine.load().kv_blocks_used == 3
    assert not bench.engine.reserve("other", 12)
    assert bench.engine.plan_import(make_request("rival", [9] * 12)) is None
    plan = bench.engine.plan_import(make_request("r", [1] * 9), "lease")
    assert len(plan.block_ids) == bench.engine.load().kv_blocks_used == 3
    assert not bench.engine.release_reservation("lease")
    bench.engine.check_integrity()


def test_a_reservation_holds_even_when_others_have_taken_the_rest(
    make_bench: Make, make_request: Make
) -> None:
    bench = make_bench(4)
    assert bench.engine.reserve("lease", 12)
    bench.engine.add(make_request("runs", [7] * 2))
    bench.step()
    assert bench.engine.load().kv_blocks_used == 4
    assert bench.engine.plan_import(make_request("r", [1] * 12), "lease")


def test_a_reservation_may_be_smaller_than_its_prompt(make_bench: Make, make_request: Make) -> None:
    bench = make_bench(4)
    assert bench.engine.reserve("lease", 8)
    plan = bench.engine.plan_import(make_request("r", [1] * 12), "lease")
    assert len(plan.block_ids) == bench.engine.load().kv_blocks_used == 3


def test_a_reservation_gives_back_what_the_prefix_cache_saves(make_bench: Make, make_request: Make) -> None:
    bench = make_bench(8)
    bench.engine.add(make_request("warm", range(1, 10), max_tokens=1))
    bench.run()
    assert bench.engine.reserve("lease", 12)
    plan = bench.engine.plan_import(make_request("r", range(1, 13)), "lease")
    assert plan.first_block == 2
    assert bench.engine.load().kv_blocks_used == 3
    assert bench.engine.reserve("next", 4)
    assert bench.engine.release_reservation("next")
    assert not bench.engine.release_reservation("next")
    bench.engine.check_integrity()
