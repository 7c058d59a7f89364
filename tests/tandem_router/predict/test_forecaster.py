from dataclasses import replace

import pytest

from tandem_perf.profile import load
from tandem_router.policies import NOTHING_KNOWN, View
from tandem_router.predict.flight import Flight
from tandem_router.predict.forecaster import Forecaster
from tandem_router.predict.models import Seed
from tandem_router.types import Choice, Endpoint, Objective, Pair, Path, RequestInfo, Role

PROFILE = load("qwen3-8b/h200/tp1/bfloat16")
PREFILL, DECODE = (
    Endpoint(f"{role}-0", "10.0.0.1", 8100, role, str(role), "vllm", "m", "1")
    for role in (Role.PREFILL, Role.DECODE)
)
PAIR, WHOLE = Pair(PREFILL, DECODE), Pair(None, DECODE)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def forecaster(clock: Clock) -> Forecaster:
    objectives = {"default": Objective(0.5, 0.05), "slow": Objective()}
    return Forecaster(clock, objectives, [Seed(PROFILE)])


def request(tokens: int = 2000, **changes: object) -> RequestInfo:
    return replace(RequestInfo("r", "m", tokens, stream=True), **changes)  # type: ignore[arg-type]


def begin(forecaster: Forecaster, pair: Pair, asked: RequestInfo | None = None) -> Flight:
    choice = Choice(pair.prefill, pair.decode, Path.DISAGGREGATED, "pair_available")
    return forecaster.begin(asked or request(), choice, NOTHING_KNOWN)


def ttft(forecaster: Forecaster, pair: Pair, view: View = NOTHING_KNOWN) -> float:
    prediction = forecaster.predict(request(), pair, view)
    assert prediction is not None
    return prediction.ttft


def test_nothing_is_predicted_of_workers_that_nothing_is_known_of(clock: Clock) -> None:
    assert Forecaster(clock).predict_all(request(), (PAIR, WHOLE), NOTHING_KNOWN) == [None, None]


def test_a_profile_is_for_the_workers_that_it_names(clock: Clock) -> None:
    forecaster = Forecaster(clock, {}, [Seed(PROFILE, gpu="h200")])
    assert forecaster.predict(request(), PAIR, NOTHING_KNOWN) is None
    known = Pair(replace(PREFILL, name="p", gpu="h200"), replace(DECODE, name="d", gpu="h200"))
    assert forecaster.predict(request(), known, NOTHING_KNOWN) is not None


def test_prompts_in_front_cached_tokens_and_transfer_count(forecaster: Forecaster, clock: Clock) -> None:
    idle = ttft(forecaster, PAIR)
    assert ttft(forecaster, WHOLE) < idle
    assert ttft(forecaster, PAIR, View(matches={PREFILL.name: 1900})) < idle / 2
    flight = begin(forecaster, PAIR)
    behind = ttft(forecaster, PAIR)
    assert behind > 1.7 * idle
    clock.now += 0.01
    assert ttft(forecaster, PAIR) == pytest.approx(behind - 0.01)
    flight.dropped(clock.now)
    assert ttft(forecaster, PAIR) == pytest.approx(idle)


def test_streams_make_steps_longer_and_prompts_beside_dearer(forecaster: Forecaster, clock: Clock) -> None:
    alone = forecaster.predict(request(), WHOLE, NOTHING_KNOWN)
    for _ in range(32):
        flight = begin(forecaster, PAIR)
        flight.prefilled(clock.now)
        flight.first_token(clock.now)
    among = forecaster.predict(request(), WHOLE, NOTHING_KNOWN)
    assert alone is not None
    assert among is not None
    assert among.tpot > 1.2 * alone.tpot
    assert alone.interference == 0
    assert among.interference > among.prefill


def test_every_end_of_a_flight_leaves_nothing_behind(forecaster: Forecaster, clock: Clock) -> None:
    idle = forecaster.predict_all(request(), (PAIR, WHOLE), NOTHING_KNOWN)
    for pair in (PAIR, WHOLE):
        for stream in (True, False):
            for phases in range(4):
                flight = begin(forecaster, pair, request(stream=stream))
                if phases > 0 and pair.prefill is not None:
                    flight.prefilled(clock.now)
                if phases > 1 and stream:
                    flight.first_token(clock.now)
                if phases > 2:
                    flight.ended(clock.now, None)
                flight.dropped(clock.now)
    clock.now += 1000
    after = forecaster.predict_all(request(), (PAIR, WHOLE), NOTHING_KNOWN)
    for before, now in zip(idle, after, strict=True):
        assert before is not None
        assert now is not None
        assert (now.ttft, now.tpot) == pytest.approx((before.ttft, before.tpot), rel=0.02)


def test_a_decode_leg_that_is_first_settles_the_prefill_leg(forecaster: Forecaster, clock: Clock) -> None:
    """With both legs at once the first token may come before the prefill leg's answer."""
    idle = ttft(forecaster, PAIR)
    flight = begin(forecaster, PAIR)
    clock.now += 0.05
    flight.first_token(clock.now)
    flight.prefilled(clock.now)
    flight.ended(clock.now + 1, 100)
    assert ttft(forecaster, PAIR) == pytest.approx(idle, rel=0.15)


def test_what_is_measured_is_predicted_next_time(clock: Clock) -> None:
    """Without a profile, from the hand-overs alone: 0.2 s of prefill, 30 ms of transfer, 10 ms a token."""
    forecaster = Forecaster(clock)
    for _ in range(100):
        clock.now += 10
        flight = begin(forecaster, PAIR)
        clock.now += 0.2
        flight.prefilled(clock.now)
        clock.now += 0.03
        flight.first_token(clock.now)
        clock.now += 0.99
        flight.ended(clock.now, 100)
    predicted = forecaster.predict(request(), PAIR, NOTHING_KNOWN)
    assert predicted is not None
    assert (predicted.ttft, predicted.tpot) == pytest.approx((0.23, 0.01), rel=0.05)
    assert forecaster.median_errors()["m", "ttft"] < 0.05
    assert forecaster.median_errors()["m", "tpot"] < 0.05
    assert forecaster.expected_output(request()) == (100, 100)
    assert set(forecaster.break_evens()) == {("prefill", "decode")}


def test_prompts_are_sized_by_what_engines_counted(forecaster: Forecaster, clock: Clock) -> None:
    asked = request(1000, prompt_bytes=4000)
    assert forecaster.sized(asked) is asked
    for _ in range(20):
        flight = begin(forecaster, PAIR, asked)
        flight.counted(1500, None)
        flight.dropped(clock.now)
    assert forecaster.sized(asked).prompt_tokens == pytest.approx(1500, rel=0.02)
    assert forecaster.sized(request(1000)).prompt_tokens == 1000


def test_workers_that_are_gone_are_forgotten(forecaster: Forecaster, clock: Clock) -> None:
    flight = begin(forecaster, PAIR)
    forecaster.keep(frozenset())
    assert ttft(forecaster, PAIR) > ttft(forecaster, Pair(replace(PREFILL, name="new"), DECODE))
    flight.dropped(clock.now)
    forecaster.keep(frozenset({PREFILL.name}))
    assert forecaster.break_evens() == {}


def test_a_class_without_objectives_of_its_own_has_the_default_ones(forecaster: Forecaster) -> None:
    assert forecaster.objective(request(service_class="slow")) == Objective()
    assert forecaster.objective(request(service_class="unheard")) == Objective(0.5, 0.05)
