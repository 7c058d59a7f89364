"""What is counted of finished requests, and which of them met their objectives."""

import pytest

from tandem_router.metrics import RouterMetrics
from tandem_router.queueing.tiers import Tier
from tandem_router.record import Record
from tandem_router.sse import Usage

LABELS = {"llmservice": "s", "model": "m"}


def streamed(ttft: float, last: float, tokens: int, code: int = 200) -> Record:
    return Record(
        received=10.0,
        model="m",
        stream=True,
        code=code,
        first_token=10.0 + ttft,
        last_token=10.0 + last,
        usage=Usage(7, tokens),
    )


def attained(metrics: RouterMetrics, objective: str) -> tuple[float | None, float | None]:
    yes, no = (
        metrics.registry.get_sample_value(
            "tandem_router_slo_requests_total", {**LABELS, "objective": objective, "attained": value}
        )
        for value in ("true", "false")
    )
    return yes, no


@pytest.mark.parametrize(
    ("record", "ttft", "tpot", "both"),
    [
        (streamed(0.4, 0.4 + 9 * 0.03, 10), True, True, True),
        (streamed(0.6, 0.6 + 9 * 0.03, 10), False, True, False),
        (streamed(0.4, 0.4 + 9 * 0.05, 10), True, False, False),
        (streamed(0.4, 0.4, 1), True, True, True),
        (Record(10.0, "m", stream=True, code=503), False, False, False),
        (Record(10.0, "m", stream=True, code=429), False, False, False),
    ],
)
def test_objectives(record: Record, ttft: bool, tpot: bool, both: bool) -> None:
    metrics = RouterMetrics("s", slo_ttft=0.5, slo_tpot=0.04)
    metrics.finished(record, 20.0)
    for objective, met in (("ttft", ttft), ("tpot", tpot), ("both", both)):
        assert attained(metrics, objective) == ((1.0, None) if met else (None, 1.0))


def test_a_class_is_held_to_its_own_objective_and_an_offline_one_to_none() -> None:
    classes = {"slow": Tier("slow", ttft=2.0), "batch": Tier("batch", offline=True)}
    metrics = RouterMetrics("s", slo_ttft=0.5, slo_tpot=0.04, classes=classes)
    for name in classes:
        record = streamed(1.0, 1.0 + 9 * 0.05, 10)
        record.service_class = name
        metrics.finished(record, 20.0)
    for objective in ("ttft", "tpot", "both"):
        assert attained(metrics, objective) == (1.0, None)


def test_a_stream_that_broke_off_missed_its_objectives() -> None:
    metrics = RouterMetrics("s", slo_ttft=0.5)
    record = streamed(0.1, 0.2, 2)
    record.stream_error = "decode_broken"
    metrics.finished(record, 20.0)
    assert attained(metrics, "ttft") == (None, 1.0)
    assert attained(metrics, "tpot") == (None, None)
    counted = metrics.registry.get_sample_value(
        "tandem_router_stream_errors_total", {**LABELS, "reason": "decode_broken"}
    )
    assert counted == 1.0


@pytest.mark.parametrize("record", [Record(10.0, "m", code=200), Record(10.0, "m", stream=True, code=400)])
def test_plain_answers_and_refused_requests_say_nothing_of_objectives(record: Record) -> None:
    metrics = RouterMetrics("s", slo_ttft=0.5, slo_tpot=0.04)
    metrics.finished(record, 20.0)
    assert attained(metrics, "both") == (None, None)


def test_times_and_tokens_come_from_the_stream_and_its_usage() -> None:
    metrics = RouterMetrics("s")
    metrics.finished(streamed(0.5, 2.5, 5), 13.0)
    value = metrics.registry.get_sample_value
    assert value("tandem_router_ttft_seconds_sum", LABELS) == pytest.approx(0.5)
    assert value("tandem_router_tpot_seconds_sum", LABELS) == pytest.approx(0.5)
    assert value("tandem_router_request_duration_seconds_sum", LABELS) == pytest.approx(3.0)
    assert value("tandem_router_prompt_tokens_total", LABELS) == 7.0
    assert value("tandem_router_output_tokens_total", LABELS) == 5.0
    assert attained(metrics, "both") == (None, None)


def test_objectives_are_exposed_and_an_absent_one_is_not() -> None:
    value = RouterMetrics("s", slo_ttft=0.5).registry.get_sample_value
    objectives = [{"llmservice": "s", "objective": name} for name in ("ttft", "tpot")]
    assert [value("tandem_router_objective_seconds", labels) for labels in objectives] == [0.5, None]


def test_attainment_starts_at_0_for_a_model_that_is_expected() -> None:
    metrics = RouterMetrics("s", slo_ttft=0.5)
    metrics.expect("m")
    seen = [attained(metrics, objective) for objective in ("ttft", "tpot", "both")]
    assert seen == [(0.0, 0.0), (None, None), (0.0, 0.0)]
