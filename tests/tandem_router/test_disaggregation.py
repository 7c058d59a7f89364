import math
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem_perf.latency import Chunk, PrefillModel
from tandem_router.disaggregation import Disaggregate, Mode, break_even
from tandem_router.pipeline import choose
from tandem_router.policies import Scored, View
from tandem_router.policies.load import LeastLoaded
from tandem_router.policies.pick import Best
from tandem_router.policies.predicted import PredictedLatency, rated
from tandem_router.policies.registry import Policy, build
from tandem_router.types import Choice, Endpoint, Objective, Pair, Path, Prediction, RequestInfo, Role

UNBOUND = Objective()
REQUEST = RequestInfo("r", "m", 1000, stream=True)
PREFILL, DECODE, MIXED = (
    Endpoint(str(role), "10.0.0.1", 8100, role, str(role), "native", "m", "1")
    for role in (Role.PREFILL, Role.DECODE, Role.MIXED)
)
HANDOVER, OWN, WHOLE = Pair(PREFILL, DECODE), Pair(None, DECODE), Pair(None, MIXED)


class Told:
    """A predictor that says what it was told."""

    def __init__(self, predictions: dict[Pair, Prediction | None], objective: Objective = UNBOUND) -> None:
        self._predictions, self._objective = predictions, objective

    def predict(self, _request: RequestInfo, pair: Pair, _view: View, /) -> Prediction | None:
        return self._predictions.get(pair)

    def predict_all(
        self, _request: RequestInfo, pairs: Sequence[Pair], _view: View, /
    ) -> Sequence[Prediction | None]:
        return [self._predictions.get(pair) for pair in pairs]

    def objective(self, _request: RequestInfo, /) -> Objective:
        return self._objective


def local(
    remote: Prediction | None, own: Prediction | None, mixed: Prediction | None = None, matches: int = 0
) -> tuple[Pair, str] | None:
    view = View(matches={"decode": matches}, predictor=Told({HANDOVER: remote, OWN: own, WHOLE: mixed}))
    return Disaggregate().local(REQUEST, Scored(1.0, HANDOVER), Scored(0.5, WHOLE) if mixed else None, view)


def test_the_lower_cost_wins_and_its_reason_is_told() -> None:
    remote = Prediction(0.2, 0.01, queue=0.05)
    assert local(remote, Prediction(0.3, 0.01)) is None
    assert local(remote, Prediction(0.1, 0.01)) == (OWN, "short_prompt")
    assert local(remote, Prediction(0.1, 0.01), matches=900) == (OWN, "mostly_cached")
    assert local(remote, Prediction(0.18, 0.01)) == (OWN, "prefill_busy")
    assert local(remote, Prediction(0.1, 0.01, interference=0.4)) is None
    assert local(remote, Prediction(0.19, 0.01), Prediction(0.1, 0.01)) == (WHOLE, "short_prompt")


def test_a_decode_worker_that_cannot_prefill_is_never_asked_to() -> None:
    decode = replace(DECODE, engine="sglang")
    pair = Pair(replace(PREFILL, engine="sglang"), decode)
    told = Told({pair: Prediction(0.2, 0.01), Pair(None, decode): Prediction(0.1, 0.01)})
    assert Disaggregate().local(REQUEST, Scored(1.0, pair), None, View(predictor=told)) is None


@pytest.mark.parametrize("view", [View(), View(predictor=Told({}))])
def test_while_nothing_is_known_only_short_prompts_stay_on_mixed_workers(view: View) -> None:
    stay, short = Disaggregate(), RequestInfo("r", "m", 100, stream=True)
    mixed = Scored(0.5, WHOLE)
    assert stay.local(short, Scored(1.0, HANDOVER), None, view) is None
    assert stay.local(short, Scored(1.0, HANDOVER), mixed, view) == (WHOLE, "short_prompt")
    assert stay.local(REQUEST, Scored(1.0, HANDOVER), mixed, view) is None


@pytest.mark.parametrize(
    ("mode", "path", "reason"),
    [
        ("auto", Path.LOCAL, "short_prompt"),
        ("always", Path.DISAGGREGATED, "pair_available"),
        ("never", Path.LOCAL, "never"),
    ],
)
def test_the_mode_decides(mode: Mode, path: Path, reason: str) -> None:
    view = View(predictor=Told({HANDOVER: Prediction(0.2, 0.01), OWN: Prediction(0.1, 0.01)}))
    policy = build((), ("least-loaded",), "best", mode)
    choice = choose(REQUEST, (PREFILL, DECODE), view, Random(0), policy=policy)
    assert isinstance(choice, Choice)
    assert (choice.path, choice.reason) == (path, reason)


models = st.builds(PrefillModel, st.floats(1e-4, 0.02), st.floats(1e-6, 1e-4), st.floats(1e-11, 1e-8))


@settings(max_examples=100, deadline=None)
@given(models, models, st.floats(0, 64), st.floats(0, 0.1), st.floats(0, 1e-4))
def test_the_break_even_divides_prompts_that_stay_from_those_that_go(
    own: PrefillModel, remote: PrefillModel, held_up: float, fixed: float, per_token: float
) -> None:
    at = break_even(own, remote, held_up=held_up, fixed=fixed, per_token=per_token)

    def saved(n: float) -> float:
        stay = (1 + held_up) * (own.a + own.b * n + own.c * n * n / 2)
        return stay - (remote.a + remote.b * n + remote.c * n * n / 2) - fixed - per_token * n

    if 0 < at < 1e9:
        assert saved(at * 1.01 + 1) > -1e-9
    if at == math.inf:
        assert saved(1e9) <= 1e-6 * (1e9**2)


def test_the_break_even_falls_with_the_streams_that_would_wait() -> None:
    model = PrefillModel(0.003, 2e-5, 1e-9)
    found = [break_even(model, model, held_up=n, fixed=0.02, per_token=1e-6) for n in (0, 1, 4, 16)]
    assert found[0] == math.inf
    assert math.inf > found[1] > found[2] > found[3] == 0
    chunk = [Chunk(round(found[1]))]
    assert model.seconds(chunk) == pytest.approx(0.02 + 1e-6 * found[1], rel=0.01)


def test_scores_put_room_before_cost_and_meeting_before_missing() -> None:
    objective = Objective(1.0, 0.05)
    roomy, barely, late = Prediction(0.3, 0.02), Prediction(0.95, 0.02), Prediction(1.5, 0.02)
    slow, dear = Prediction(0.3, 0.06), Prediction(0.3, 0.02, interference=2.0)
    scores = [rated(p, objective) for p in (roomy, dear, barely, slow, late)]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 5
    assert scores[2] > 0.5 > scores[3]
    assert rated(Prediction(0.2, 0.02), Objective()) > rated(Prediction(0.4, 0.02), Objective())


def test_the_scorer_takes_the_pair_that_meets_the_objectives() -> None:
    other = Pair(PREFILL, MIXED)
    told = Told({HANDOVER: Prediction(0.6, 0.01), other: Prediction(0.3, 0.01)}, Objective(0.5, 0.05))
    scores = PredictedLatency().score(REQUEST, (HANDOVER, other, OWN), View(predictor=told))
    assert scores[1] > scores[2] > scores[0]
    assert PredictedLatency().score(REQUEST, (HANDOVER, OWN), View()) == [0.5, 0.5]


def test_the_scorer_has_a_name() -> None:
    policy = build((), ("predicted-latency=2", "least-loaded"), "best")
    assert [type(scorer) for scorer, _ in policy.scorers] == [PredictedLatency, LeastLoaded]
    assert isinstance(policy.picker, Best)
    assert isinstance(policy, Policy)
