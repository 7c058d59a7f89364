"""What each policy prefers, and what each filter leaves out."""

from collections import Counter
from random import Random
from typing import Any

import pytest

from tandem_router.pipeline import choose
from tandem_router.policies import View, registry
from tandem_router.types import Choice, Endpoint, Load, Path, Report, RequestInfo, Role

REQUEST = RequestInfo("r", "m", 4000, stream=True)


def worker(name: str, role: str = "mixed", **changes: Any) -> Endpoint:
    values = {"pool": role, "engine": "vllm", "model": "m", "revision": "1"} | changes
    return Endpoint(name=name, address="10.0.0.1", port=8100, role=Role(role), **values)


A, B = worker("a"), worker("b")


def taken(scorer: str, view: View, request: RequestInfo = REQUEST, seed: int = 0) -> str:
    policy = registry.build([], [scorer], "best")
    choice = choose(request, [A, B], view, Random(seed), policy=policy)
    assert isinstance(choice, Choice)
    return choice.decode.name


@pytest.mark.parametrize(
    ("scorer", "view"),
    [
        ("least-loaded", View({"a": Load(1, 0)})),
        ("prefix-match", View(matches={"a": 100, "b": 3000})),
        ("queue-load", View(reports={"a": Report(running=9), "b": Report(running=8)})),
        ("queue-load", View(reports={"a": Report(waiting=2), "b": Report(running=7)})),
        ("queue-load", View({"a": Load(20, 0)}, reports={"a": Report(), "b": Report(running=2)})),
        ("token-load", View({"a": Load(1, 5000), "b": Load(3, 900)})),
        ("token-load", View(reports={"a": Report(backlog_tokens=9000), "b": Report(backlog_tokens=10)})),
        ("kv-room", View(reports={"a": Report(kv_used=0.9), "b": Report(kv_used=0.4)})),
        ("kv-room", View(reports={"a": Report(kv_used=0.9)})),
    ],
)
def test_the_better_worker_is_taken(scorer: str, view: View) -> None:
    assert {taken(scorer, view, seed=seed) for seed in range(5)} == {"b"}


@pytest.mark.parametrize("scorer", ["queue-load", "token-load", "kv-room"])
def test_a_stale_report_says_nothing(scorer: str) -> None:
    stale = Report(running=90, waiting=90, backlog_tokens=10**6, kv_used=1.0, fresh=False)
    assert {taken(scorer, View(reports={"a": stale}), seed=seed) for seed in range(20)} == {"a", "b"}


def test_a_loaded_adapter_attracts_its_requests_only() -> None:
    view = View(reports={"a": Report(adapters=frozenset({"x", "y"})), "b": Report(adapters=frozenset("z"))})
    scored = {
        name: taken("adapter-loaded", view, RequestInfo("r", "m", 9, True, adapter=name)) for name in "yzn"
    }
    assert scored == {"y": "a", "z": "b", "n": "b"}
    assert {taken("adapter-loaded", view, seed=seed) for seed in range(20)} == {"a", "b"}


def test_cheaper_workers_first() -> None:
    policy = registry.build([], ["cost"], "best")
    endpoints = [worker("dear", cost=3.0), worker("cheap", cost=0.5)]
    choice = choose(REQUEST, endpoints, View(), Random(0), policy=policy)
    assert isinstance(choice, Choice)
    assert choice.decode.name == "cheap"


@pytest.mark.parametrize(
    ("name", "request_", "report"),
    [
        ("has-kv-room", REQUEST, Report(kv_used=0.9, kv_tokens=30_000)),
        ("has-kv-room", REQUEST, Report(kv_used=0.99)),
        ("has-adapter", RequestInfo("r", "m", 9, True, adapter="x"), Report(adapters=frozenset("y"))),
    ],
)
def test_filters_leave_workers_out(name: str, request_: RequestInfo, report: Report) -> None:
    policy = registry.build([name], ["least-loaded"], "best")
    good = Report(kv_used=0.5, kv_tokens=30_000, adapters=frozenset("x"))
    view = View({"b": Load(9, 9)}, reports={"a": report, "b": good})
    choice = choose(request_, [A, B], view, Random(0), policy=policy)
    assert isinstance(choice, Choice)
    assert choice.decode.name == "b"


def fleet(zones: int, each: int) -> list[Endpoint]:
    return [
        worker(f"{role}{zone}-{i}", role, topology=f"z{zone}")
        for role in ("prefill", "decode")
        for zone in range(zones)
        for i in range(each)
    ]


@pytest.mark.parametrize("each", [1, 2, 40])
def test_kv_stays_in_its_zone(each: int) -> None:
    near = registry.build([], ["least-loaded", "near"], "best")
    only = registry.build(["only-near"], ["least-loaded"], "best")
    for policy in (near, only):
        for seed in range(20):
            choice = choose(REQUEST, fleet(5, each), View(), Random(seed), policy=policy)
            assert isinstance(choice, Choice)
            assert choice.prefill is not None
            assert choice.prefill.topology == choice.decode.topology


def test_where_no_pair_is_near_the_filter_leaves_one_worker() -> None:
    apart = [worker("p", "prefill", topology="1"), worker("d", "decode", topology="2")]
    only = registry.build(["only-near"], ["least-loaded"], "best")
    choice = choose(REQUEST, apart, View(), Random(0), policy=only)
    assert isinstance(choice, Choice)
    assert (choice.path, choice.reason) == (Path.LOCAL, "no_pair")


def test_softmax_shares_among_what_is_nearly_as_good() -> None:
    rng = Random(0)
    picked = Counter(registry.make("softmax").pick([0.5, 0.48, 0.1], rng) for _ in range(400))
    assert picked[0] > picked[1] > 100
    assert picked[2] < 5
