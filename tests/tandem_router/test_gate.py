"""The queue for asyncio: who waits is woken once, by what makes room or by the clock, and can leave."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tandem_router.errors import ApiError
from tandem_router.gate import Gate
from tandem_router.loads import LoadBook
from tandem_router.queueing.build import scheduler
from tandem_router.queueing.decisions import NOTHING
from tandem_router.queueing.tiers import Tier
from tandem_router.types import (
    BUSY,
    Choice,
    Constraint,
    Endpoint,
    NoChoice,
    Path,
    RequestInfo,
    Role,
)
from tandem_wire.router_settings import RouterSettings

WORKER = Endpoint("w", "127.0.0.1", 1, Role.MIXED, "all", "native", "m", "r")
Entering = asyncio.Task[Choice]
SETTINGS = RouterSettings.model_validate(
    {"classes": [{"name": "quick", "ttft": "200ms"}], "queueing": {"decodes": 1, "maxWaiting": 2}}
)


def choose(_info: RequestInfo, constraint: Constraint) -> Choice | NoChoice:
    if WORKER.name in constraint.avoid:
        return NoChoice("no_ready_worker")
    return NoChoice(BUSY) if WORKER.name in constraint.full else Choice(None, WORKER, Path.LOCAL, "test")


def info(name: str, service_class: str = "default") -> RequestInfo:
    return RequestInfo(name, "m", 10, stream=True, service_class=service_class)


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    made = Gate(scheduler(SETTINGS, choose, LoadBook(), {}, default=Tier(sheddable=False)))
    made.workers_changed([WORKER])
    yield made
    made.close()


def enter(gate: Gate, name: str, service_class: str = "default", seconds: float = 60.0) -> Entering:
    loop = asyncio.get_running_loop()
    return loop.create_task(gate.enter(info(name, service_class), loop.time() + seconds, 10))


async def test_a_request_waits_for_its_turn(gate: Gate) -> None:
    assert (await enter(gate, "first")).decode is WORKER
    second, third = enter(gate, "second"), enter(gate, "third")
    await asyncio.sleep(0)
    assert not second.done()
    gate.leave("first", NOTHING)
    assert (await second).decode is WORKER
    assert not third.done()
    gate.leave("second", NOTHING)
    await third


async def test_a_client_that_leaves_gives_its_place_to_the_next(gate: Gate) -> None:
    await enter(gate, "first")
    second, third = enter(gate, "second"), enter(gate, "third")
    await asyncio.sleep(0)
    second.cancel()
    gate.leave("second", NOTHING)
    gate.leave("first", NOTHING)
    await third
    assert gate.scheduler.depths["default"].requests == 0


async def test_a_client_that_leaves_at_its_turn_gives_the_worker_back(gate: Gate) -> None:
    await enter(gate, "first")
    second, third = enter(gate, "second"), enter(gate, "third")
    await asyncio.sleep(0)
    gate.leave("first", NOTHING)
    second.cancel()
    await asyncio.sleep(0)
    gate.leave("second", NOTHING)
    await third


async def test_refusals_have_their_reasons_and_say_when_to_come_back(gate: Gate) -> None:
    await enter(gate, "first")
    waiting = [enter(gate, f"waits{i}") for i in range(2)]
    late = enter(gate, "late", "quick")
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(ApiError) as full:
        await enter(gate, "more")
    assert (full.value.status, full.value.code) == (429, "queue_full")
    with pytest.raises(ApiError) as shed:
        await late
    assert (shed.value.status, shed.value.code) == (429, "class_unattainable")
    assert shed.value.retry_after == 1
    assert loop.time() - began < 0.3
    for task in waiting:
        task.cancel()


async def test_a_deadline_ends_the_wait(gate: Gate) -> None:
    await enter(gate, "first")
    with pytest.raises(ApiError) as over:
        await enter(gate, "second", seconds=0.05)
    assert (over.value.status, over.value.code) == (504, "deadline_exceeded")


async def test_after_a_failure_there_may_be_no_worker_left(gate: Gate) -> None:
    await enter(gate, "first")
    second = enter(gate, "second")
    await asyncio.sleep(0)
    gate.leave("first", NOTHING)
    await second
    answer = await gate.again(info("second"), Constraint(avoid=frozenset({WORKER.name})))
    assert answer == NoChoice("no_ready_worker")


async def test_a_busy_worker_is_asked_again_after_a_moment(gate: Gate) -> None:
    await enter(gate, "first")
    gate.busy(WORKER.name)
    async with asyncio.timeout(5):
        answer = await gate.again(info("first"), Constraint(avoid=frozenset({WORKER.name})))
    assert isinstance(answer, Choice)
