"""Policies by name, with weights, and from installed packages."""

from collections.abc import Sequence
from importlib.metadata import EntryPoint, EntryPoints
from random import Random

import pytest

from tandem_router.pipeline import choose
from tandem_router.policies import NOTHING_KNOWN, View, registry
from tandem_router.policies.filters import EndpointFilter
from tandem_router.policies.load import LeastLoaded
from tandem_router.types import Choice, Endpoint, Load, Pair, RequestInfo, Role

REQUEST = RequestInfo("r", "m", 4000, stream=True)
A, B = (Endpoint(name, "10.0.0.1", 8100, Role.MIXED, "x", "native", "m", "1") for name in ("a", "b"))


class PrefersLastName:
    def score(self, _request: RequestInfo, pairs: Sequence[Pair], _view: View, /) -> Sequence[float]:
        return [float(pair.decode.name == "b") for pair in pairs]


class NeverB(EndpointFilter):
    def endpoint(self, _request: RequestInfo, endpoint: Endpoint, _view: View, /) -> bool:
        return endpoint.name != "b"


@pytest.fixture(autouse=True)
def _plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    points = EntryPoints(
        EntryPoint(name, f"{__name__}:{kind.__name__}", registry.GROUP)
        for name, kind in (("last-name", PrefersLastName), ("never-b", NeverB))
    )
    loaded = {"last-name": PrefersLastName, "never-b": NeverB}
    monkeypatch.setattr(registry, "entry_points", lambda group: points.select(group=group))
    monkeypatch.setattr(EntryPoint, "load", lambda point: loaded[point.name])


def chosen(policy: registry.Policy, view: View) -> str:
    choice = choose(REQUEST, [A, B], view, Random(0), policy=policy)
    assert isinstance(choice, Choice)
    return choice.decode.name


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match=r"unknown policy 'fastest'; known: adapter-loaded, best, .*, never-b, "
    ):
        registry.build([], ["fastest"], "best")


def test_weights_decide_between_scorers() -> None:
    busy = View({"b": Load(9, 0)})
    assert chosen(registry.build([], ["least-loaded"], "best"), busy) == "a"
    assert chosen(registry.build([], ["least-loaded", "last-name=0.5"], "best"), busy) == "a"
    assert chosen(registry.build([], ["least-loaded", "last-name=2"], "best"), busy) == "b"


def test_a_named_filter_holds_beside_the_required_ones() -> None:
    policy = registry.build(["never-b"], ["last-name"], "best")
    assert chosen(policy, NOTHING_KNOWN) == "a"


@pytest.mark.parametrize("scorer", ["least-loaded=x", "least-loaded=-1", "least-loaded=inf", "best"])
def test_what_is_no_scorer_is_refused(scorer: str) -> None:
    with pytest.raises(ValueError):
        registry.build([], [scorer], "best")


def test_scores_stay_between_zero_and_one_and_fall_with_load() -> None:
    loads: list[dict[str, Load]] = [{}, {"a": Load(1, 0)}, {"a": Load(1, 4000)}, {"a": Load(900, 10**7)}]
    scores = [LeastLoaded().score(REQUEST, [Pair(None, A)], View(load))[0] for load in loads]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
