"""Any order of requests, aborts, hand-overs and steps: right tokens, no lost block, nobody starves."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tandem_worker.request import Request, SeedToken

Make = Callable[..., Any]
NUM_BLOCKS = 10
OPS = ["add", "add", "hold", "abort", "import", "commit", "cancel", "reserve", "release", "step", "step"]


@dataclass
class World:
    """A prefill and a decode engine with everything that is under way between them."""

    source: Any
    target: Any
    names: Iterator[str] = field(default_factory=lambda: (f"r{i}" for i in range(1000)))
    requests: dict[str, Request] = field(default_factory=dict)
    aborted: set[str] = field(default_factory=set)
    importing: dict[str, Any] = field(default_factory=dict)
    reserved: list[str] = field(default_factory=list)
    released: set[str] = field(default_factory=set)


def _prompts() -> st.SearchStrategy[list[int]]:
    """Often with a common prefix, up to more than three blocks."""
    return st.builds(
        lambda shared, own: [*range(1, 1 + shared), *own],
        st.integers(0, 12),
        st.lists(st.integers(1, 49), min_size=1, max_size=4),
    )


def _apply(op: str, world: World, data: st.DataObject, make_request: Make) -> None:
    source, target = world.source, world.target
    name = next(world.names)
    match op:
        case "add" | "hold":
            request = make_request(name, data.draw(_prompts()), data.draw(st.integers(1, 30)), op == "hold")
            world.requests[name] = request
            target.engine.add(request)
        case "abort" if world.requests:
            victim = data.draw(st.sampled_from(sorted(world.requests)))
            world.importing.pop(victim, None)
            if target.engine.abort(victim):
                world.aborted.add(victim)
        case "import":
            _import(world, name, data, make_request)
        case "commit" if world.importing:
            _commit(world, data.draw(st.sampled_from(sorted(world.importing))), data.draw(st.booleans()))
        case "cancel" if world.importing:
            victim = data.draw(st.sampled_from(sorted(world.importing)))
            del world.importing[victim]
            world.aborted.add(victim)
            assert target.engine.cancel_import(victim)
            assert source.engine.release_held(victim)
        case "reserve" if target.engine.reserve(name, data.draw(st.integers(1, 20))):
            world.reserved.append(name)
        case "release":
            _release(world)
        case "step":
            for _ in range(data.draw(st.integers(1, 8))):
                target.step()


def _release(world: World) -> None:
    for reservation in world.reserved:
        assert world.target.engine.release_reservation(reservation)
    world.reserved.clear()
    for name, outputs in world.target.outputs.items():
        is_held = world.requests[name].hold_kv and outputs[-1].finish_reason is not None
        assert world.target.engine.release_held(name) == (is_held and name not in world.released)
        world.released |= {name} if is_held else set()


def _import(world: World, name: str, data: st.DataObject, make_request: Make) -> None:
    prompt, max_tokens = data.draw(_prompts()), data.draw(st.integers(1, 30))
    reservation = data.draw(st.sampled_from([None, *world.reserved]))
    request = make_request(name, prompt, max_tokens)
    plan = world.target.engine.plan_import(request, reservation)
    if plan is None:
        return
    if reservation is not None:
        world.reserved.remove(reservation)
    world.requests[name] = request
    world.importing[name] = plan
    world.source.engine.add(make_request(name, prompt, 1, hold_kv=True))
    world.source.run()


def _commit(world: World, name: str, has_seed: bool) -> None:
    plan = world.importing.pop(name)
    held = world.source.engine.held(name)
    data = world.source.engine.read_blocks(held.block_ids[plan.first_block :])
    world.target.engine.write_blocks(plan.block_ids, data)
    seed = SeedToken(world.source.tokens(name)[0]) if has_seed else None
    world.target.take(world.target.engine.commit_import(name, seed).outputs)
    assert world.source.engine.release_held(name)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_history_gives_the_tokens_of_a_request_alone_and_loses_no_block(
    make_bench: Make, make_request: Make, expected_tokens: Make, data: st.DataObject
) -> None:
    world = World(make_bench(64), make_bench(NUM_BLOCKS, max_num_seqs=3, max_batched_tokens=6))
    for op in data.draw(st.lists(st.sampled_from(OPS), min_size=10, max_size=50)):
        _apply(op, world, data, make_request)
        world.target.engine.check_integrity()
    for name in sorted(world.importing):
        _commit(world, name, True)
    while world.target.engine.has_work():
        _release(world)
        world.target.step()
    _release(world)
    for name in world.requests.keys() - world.aborted:
        assert world.target.tokens(name) == expected_tokens(world.requests[name], NUM_BLOCKS * 4)
    assert world.target.engine.load().kv_blocks_used == 0


@settings(max_examples=60, deadline=None)
@given(prompts=st.lists(_prompts(), min_size=1, max_size=12), num_blocks=st.integers(5, 20))
def test_first_tokens_come_in_order_of_arrival(
    make_bench: Make, make_request: Make, prompts: list[list[int]], num_blocks: int
) -> None:
    bench = make_bench(num_blocks, max_num_seqs=3, max_batched_tokens=6)
    for i, prompt in enumerate(prompts):
        bench.engine.add(make_request(f"r{i}", prompt, max_tokens=4))
    bench.run()
    assert list(bench.outputs) == [f"r{i}" for i in range(len(prompts))]
