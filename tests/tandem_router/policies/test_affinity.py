"""Requests that belong together meet on the same workers, in every router, while these have room."""

from collections import Counter
from random import Random

import pytest

from tandem_router.candidates import Roster
from tandem_router.loads import LoadBook
from tandem_router.memory import SentPrefixes
from tandem_router.pipeline import choose
from tandem_router.policies import View, registry
from tandem_router.rendezvous import key_of
from tandem_router.types import Choice, Endpoint, RequestInfo, Role

WORKERS = [Endpoint(f"w{i}", "10.0.0.1", 8100, Role.MIXED, "x", "vllm", "m", "1") for i in range(40)]
POLICY = registry.build([], ["least-loaded", "prefix-affinity=2"], "best")


def request(prefix: int, session: str = "") -> RequestInfo:
    return RequestInfo("r", "m", 4000, stream=True, prefix=(prefix,), session=session)


def place(asked: RequestInfo, view: View, seed: int, scorer: str = "prefix-affinity=2") -> str:
    policy = registry.build([], ["least-loaded", scorer], "best")
    choice = choose(asked, WORKERS, view, Random(seed), policy=policy)
    assert isinstance(choice, Choice)
    return choice.decode.name


def test_two_routers_that_share_nothing_agree() -> None:
    for prefix in range(20):
        assert place(request(prefix), View(), 1) == place(request(prefix), View(), 2)
        asked = request(0, session=f"s{prefix}")
        assert len({place(asked, View(), seed, "session-affinity=2") for seed in range(3)}) == 1


def test_prefixes_are_shared_out_evenly() -> None:
    everyone = Roster(WORKERS)
    owners = Counter(everyone.owners(key_of(str(prefix)))[0] for prefix in range(8000))
    assert len(owners) == 40
    assert max(owners.values()) < 1.5 * 200


def test_a_worker_that_goes_moves_only_its_own_prefixes() -> None:
    everyone, left = Roster(WORKERS), Roster(WORKERS[1:])
    for key in map(key_of, map(str, range(300))):
        before, after = everyone.owners(key), left.owners(key)
        assert left[after[0]] is everyone[before[1] if before[0] == 0 else before[0]]


def test_a_hot_prefix_spreads_and_others_stay_where_they_are() -> None:
    book, rng = LoadBook(), Random(0)
    taken: Counter[str] = Counter()
    for _ in range(120):
        name = place(request(7), View(book), rng.randrange(10**6))
        book.begin(name, 500)
        taken[name] += 1
    assert len(taken) > 10
    assert max(taken.values()) < 12


def test_more_of_the_prompts_is_cached_than_with_random_choice() -> None:
    """200 prefixes on 40 workers that each keep the last 10."""

    def hits(scorers: list[str]) -> float:
        policy, rng = registry.build([], scorers, "best"), Random(1)
        caches: dict[str, list[int]] = {e.name: [] for e in WORKERS}
        memory, book, running, hit = SentPrefixes(), LoadBook(), [], 0
        for _ in range(3000):
            asked = request(rng.randrange(200))
            view = View(book, matches=memory.match(asked))
            choice = choose(asked, WORKERS, view, rng, policy=policy)
            assert isinstance(choice, Choice)
            cache = caches[choice.decode.name]
            hit += asked.prefix[0] in cache
            cache[:] = [*(block for block in cache if block != asked.prefix[0]), asked.prefix[0]][-10:]
            memory.sent(asked.prefix, choice.decode.name)
            book.begin(choice.decode.name, 4000)
            running.append(choice.decode.name)
            if len(running) > 40:
                book.end(running.pop(0), 4000)
        return hit / 3000

    assert hits(["least-loaded"]) < 0.35
    assert hits(["least-loaded", "prefix-affinity=2"]) > 0.75


@pytest.mark.parametrize("capacity", [8, 1000])
def test_memory_knows_the_deepest_match_and_stays_within_its_bound(capacity: int) -> None:
    memory = SentPrefixes(capacity)
    deep = RequestInfo("r", "m", 10_000, stream=True, prefix=(1, 2, 3, 4, 5))
    memory.sent((1, 2), "a")
    memory.sent(deep.prefix, "b")
    found = memory.match(deep)
    assert found == {"b": 640, "a": 256}
    for index in range(200):
        memory.sent((100 + index, 500 + index), f"w{index % 12}")
        memory.check_integrity()
    assert memory.match(deep) == (found if capacity == 1000 else {})
