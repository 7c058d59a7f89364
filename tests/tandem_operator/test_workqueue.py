"""The queue of keys: no key twice, no two passes of one key at once, failures again later."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem_operator import workqueue
from tandem_operator.workqueue import WorkQueue


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workqueue, "FIRST_RETRY", 0.01)


def make() -> WorkQueue[str]:
    return WorkQueue(random.Random(0))


async def take(queue: WorkQueue[str]) -> str:
    return await asyncio.wait_for(queue.take(), 2)


async def test_a_key_waits_only_once() -> None:
    queue = make()
    for key in ("a", "b", "a"):
        queue.add(key)
    assert [await take(queue), await take(queue)] == ["a", "b"]
    assert await empty(queue)


async def test_a_key_added_during_its_pass_comes_again_after_it() -> None:
    queue = make()
    queue.add("a")
    await take(queue)
    queue.add("a")
    assert await empty(queue)
    queue.done("a")
    assert await take(queue) == "a"


@pytest.mark.usefixtures("quick_retries")
async def test_a_failed_key_comes_again_by_itself() -> None:
    queue = make()
    queue.add("a")
    for _ in range(3):
        queue.done(await take(queue), failed=True)
    queue.done(await take(queue))
    assert await empty(queue)


def test_retries_slow_down_to_a_limit_and_start_anew_after_success() -> None:
    async def delays() -> list[float]:
        queue, loop = make(), asyncio.get_running_loop()
        found = []
        for failed in [True] * 12 + [False, True]:
            queue.add("a")
            await take(queue)
            queue.done("a", failed=failed)
            if failed:
                found.append(queue._timers["a"].when() - loop.time())
        return found

    *rising, after = asyncio.run(delays())
    assert 0.2 < rising[0] <= 0.5
    assert 25 < rising[-1] <= 60
    assert after <= 0.5


@pytest.mark.usefixtures("quick_retries")
async def test_news_about_a_failed_key_is_worked_on_at_once_and_once() -> None:
    queue = make()
    queue.add("a")
    queue.done(await take(queue), failed=True)
    queue.add("a")
    assert await take(queue) == "a"
    queue.done("a")
    await asyncio.sleep(0.03)
    assert await empty(queue)


async def empty(queue: WorkQueue[str]) -> bool:
    try:
        await asyncio.wait_for(queue.take(), 0.005)
    except TimeoutError:
        return True
    return False


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["add", "take", "done", "fail"])), max_size=40)
)
def test_no_addition_is_lost_and_no_key_runs_twice_at_once(steps: list[tuple[str, str]]) -> None:
    async def play() -> None:
        queue = make()
        running: set[str] = set()
        owed: set[str] = set()
        for key, step in steps:
            if step == "add":
                queue.add(key)
                owed.add(key)
            elif step == "take" and owed - running:
                taken = await take(queue)
                assert taken not in running
                running.add(taken)
                owed.discard(taken)
            elif key in running:
                running.discard(key)
                queue.done(key, failed=step == "fail")
        for key in list(running):
            queue.done(key)
        assert {await take(queue) for _ in owed} == owed

    asyncio.run(play())
