"""Choices: only what fits, the least loaded of it, and the same again for the same question."""

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem_router.pipeline import choose
from tandem_router.policies import NOTHING_KNOWN, View
from tandem_router.policies.filters import EndpointFilter, PairFilter
from tandem_router.policies.registry import DEFAULT, Policy
from tandem_router.policies.stay import SHORT_PROMPT_TOKENS
from tandem_router.types import Choice, Constraint, Endpoint, Load, NoChoice, Pair, Path, RequestInfo, Role

LONG = RequestInfo("r", "m", 4000, stream=True)
SHORT = RequestInfo("r", "m", SHORT_PROMPT_TOKENS - 1, stream=True)


def worker(name: str, role: str, **changes: Any) -> Endpoint:
    values = {"pool": role, "engine": "native", "model": "m", "revision": "1"} | changes
    return Endpoint(name=name, address="10.0.0.1", port=8100, role=Role(role), **values)


P1, P2 = worker("p1", "prefill"), worker("p2", "prefill")
D1, D2 = worker("d1", "decode"), worker("d2", "decode")
M1, M2 = worker("m1", "mixed"), worker("m2", "mixed")


def names(choice: Choice | NoChoice) -> tuple[str | None, str, str]:
    assert isinstance(choice, Choice)
    return choice.prefill.name if choice.prefill else None, choice.decode.name, choice.reason


WORKERS = st.builds(
    worker,
    name=st.integers(0, 10**6).map(str),
    role=st.sampled_from(["prefill", "decode", "mixed"]),
    ready=st.booleans(),
    revision=st.sampled_from(["1", "2"]),
    engine=st.sampled_from(["native", "vllm"]),
    model=st.sampled_from(["m", "other"]),
)


@given(
    st.lists(WORKERS, max_size=8, unique_by=lambda e: e.name),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9000)), min_size=8, max_size=8),
    st.sets(st.integers(0, 7)),
    st.sets(st.integers(0, 7)),
    st.booleans(),
    st.sampled_from([LONG, SHORT]),
    st.integers(0, 5),
)
@settings(max_examples=150)
def test_a_choice_always_fits_and_is_repeatable(
    endpoints: list[Endpoint],
    load: list[tuple[int, int]],
    avoided: set[int],
    shunned: set[int],
    local_only: bool,
    request: RequestInfo,
    seed: int,
) -> None:
    loads = {e.name: Load(*load[i]) for i, e in enumerate(endpoints)}
    avoid = frozenset(e.name for i, e in enumerate(endpoints) if i in avoided)
    shun = frozenset(e.name for i, e in enumerate(endpoints) if i in shunned)
    constraint = Constraint(avoid, shun, local_only)
    choice = choose(request, endpoints, View(loads), Random(seed), constraint=constraint)
    assert choice == choose(request, endpoints, View(loads), Random(seed), constraint=constraint)
    usable = [e for e in endpoints if e.ready and e.model == "m" and e.name not in avoid]
    if isinstance(choice, NoChoice):
        assert all(e.role is Role.PREFILL for e in usable)
        return
    assert choice.decode in usable
    assert choice.decode.role is not Role.PREFILL
    if choice.prefill is None:
        assert choice.path is Path.LOCAL
        return
    assert not local_only
    assert choice.path is Path.DISAGGREGATED
    assert choice.prefill in usable
    assert (choice.prefill.role, choice.decode.role) == (Role.PREFILL, Role.DECODE)
    assert (choice.prefill.revision, choice.prefill.engine) == (choice.decode.revision, choice.decode.engine)
    assert not {choice.prefill.name, choice.decode.name} <= shun


def test_the_least_loaded_of_each_side_is_taken() -> None:
    loads = {"p1": Load(1, 9000), "p2": Load(2, 10), "d1": Load(5, 0), "d2": Load(6, 0)}
    assert names(choose(LONG, [P1, P2, D1, D2], View(loads), Random(0))) == ("p2", "d1", "pair_available")


def test_equals_share_the_work() -> None:
    rng = Random(0)
    taken = {names(choose(LONG, [P1, P2, D1, D2], NOTHING_KNOWN, rng))[:2] for _ in range(40)}
    assert len(taken) == 4


def test_a_revision_never_pairs_with_another() -> None:
    new = worker("d3", "decode", revision="2")
    assert names(choose(LONG, [P1, D1, new], View({"d1": Load(99, 0)}), Random(0)))[:2] == ("p1", "d1")
    assert names(choose(LONG, [P1, new], NOTHING_KNOWN, Random(0))) == (None, "d3", "no_pair")


@pytest.mark.parametrize(
    ("endpoints", "expected"),
    [
        ([D1], (None, "d1", "no_prefill_worker")),
        ([M1], (None, "m1", "no_prefill_worker")),
        ([P1, M1], (None, "m1", "no_pair")),
    ],
)
def test_without_a_pair_one_worker_does_both(endpoints: list[Endpoint], expected: tuple[Any, ...]) -> None:
    assert names(choose(LONG, endpoints, NOTHING_KNOWN, Random(0))) == expected


def test_a_mixed_worker_takes_short_prompts_and_what_it_has_more_room_for() -> None:
    everyone = [P1, D1, M1]
    assert names(choose(SHORT, everyone, NOTHING_KNOWN, Random(0))) == (None, "m1", "short_prompt")
    assert names(choose(LONG, everyone, NOTHING_KNOWN, Random(0))) == ("p1", "d1", "pair_available")
    assert names(choose(LONG, everyone, View({"p1": Load(3, 0)}), Random(0))) == (None, "m1", "less_loaded")


@pytest.mark.parametrize(
    ("endpoints", "reason"),
    [
        ([], "no_worker"),
        ([worker("x", "decode", model="other")], "no_worker"),
        ([worker("x", "decode", ready=False)], "no_ready_worker"),
        ([P1], "no_decode_worker"),
    ],
)
def test_no_choice_says_why(endpoints: list[Endpoint], reason: str) -> None:
    assert choose(LONG, endpoints, NOTHING_KNOWN, Random(0)) == NoChoice(reason)


def test_after_a_pair_failed_another_pair_is_tried_first() -> None:
    shun = Constraint(shun=frozenset({"p1", "d1"}))
    assert names(choose(LONG, [P1, P2, D1, D2], NOTHING_KNOWN, Random(0), constraint=shun))[:2] == (
        "p2",
        "d2",
    )
    assert names(choose(LONG, [P1, D1, D2], NOTHING_KNOWN, Random(0), constraint=shun))[:2] == ("p1", "d2")
    assert names(choose(LONG, [P1, D1], NOTHING_KNOWN, Random(0), constraint=shun))[:2] == (None, "d1")


def test_local_only_prefers_a_worker_that_did_not_fail() -> None:
    rule = Constraint(shun=frozenset({"d1"}), local_only=True)
    assert {
        names(choose(LONG, [P1, D1, D2], NOTHING_KNOWN, Random(s), constraint=rule))[1] for s in range(9)
    } == {"d2"}
    assert names(choose(LONG, [P1, D1], NOTHING_KNOWN, Random(0), constraint=rule))[1] == "d1"


def test_a_prompt_that_is_held_is_handed_over_from_where_it_is() -> None:
    held = Constraint(held="p1", shun=frozenset({"d1"}))
    view = View({"p1": Load(50, 90_000)})
    assert names(choose(LONG, [P1, P2, D1, D2], view, Random(0), constraint=held))[:2] == ("p1", "d2")


def fleet(size: int) -> list[Endpoint]:
    return [worker(f"{role}{i}", role) for role in ("prefill", "decode") for i in range(size)]


@given(st.integers(17, 60), st.sets(st.integers(0, 59)), st.sets(st.integers(0, 59)), st.integers(0, 99))
@settings(max_examples=40)
def test_among_many_workers_the_same_rules_hold(size: int, busy: set[int], out: set[int], seed: int) -> None:
    everyone = fleet(size)
    loads = {f"{role}{i}": Load(2, 5000) for role in ("prefill", "decode") for i in busy if i < size}
    avoid = frozenset(f"prefill{i}" for i in out)
    ejected = frozenset(f"decode{i}" for i in out)
    view, rule = View(loads, ejected=ejected), Constraint(avoid=avoid)
    request = RequestInfo("r", "m", 4000, True, prefix=(seed, seed + 1), session=str(seed))
    choice = choose(request, everyone, view, Random(seed), constraint=rule)
    left = set(range(size)) - out
    if not left:
        assert isinstance(choice, NoChoice)
        return
    assert isinstance(choice, Choice)
    assert choice.prefill is not None
    for chosen, ruled_out in ((choice.prefill, avoid), (choice.decode, ejected)):
        assert chosen.name not in ruled_out
        assert chosen.name not in loads or left <= busy


def test_a_filter_that_few_pass_still_finds_them() -> None:
    class OnlySeven(EndpointFilter):
        def endpoint(self, _request: RequestInfo, endpoint: Endpoint, _view: View, /) -> bool:
            return endpoint.name.endswith("57")

    class Straight(PairFilter):
        def pair(self, _request: RequestInfo, pair: Pair, _view: View, /) -> bool:
            return pair.prefill is not None and pair.prefill.name[7:] == pair.decode.name[6:] == "11"

    for only, expected in ((OnlySeven(), ("prefill57", "decode57")), (Straight(), ("prefill11", "decode11"))):
        policy = Policy((only,), DEFAULT.scorers, DEFAULT.picker)
        assert names(choose(LONG, fleet(60), NOTHING_KNOWN, Random(0), policy=policy))[:2] == expected


def test_many_equals_share_the_work() -> None:
    rng, everyone = Random(0), fleet(50)
    taken = [names(choose(LONG, everyone, NOTHING_KNOWN, rng))[:2] for _ in range(400)]
    for side in zip(*taken, strict=True):
        assert len(set(side)) == 50
        assert max(side.count(name) for name in set(side)) < 24


def test_what_needs_one_worker_gets_one() -> None:
    request = RequestInfo("r", "m", 4000, True, needs_local="prompt_logprobs")
    assert names(choose(request, [P1, D1], NOTHING_KNOWN, Random(0))) == (None, "d1", "prompt_logprobs")
