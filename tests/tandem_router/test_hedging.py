"""When a second prefill worker is asked."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem_router.hedging import BASE_TOKENS, MIN_KNOWN, REMEMBERED, Hedger


def test_nothing_is_hedged_before_enough_is_known() -> None:
    hedger = Hedger(0.9)
    for _ in range(MIN_KNOWN - 1):
        assert hedger.delay(100) is None
        hedger.took(100, 1.0)
    assert hedger.delay(100) is None
    hedger.took(100, 1.0)
    assert hedger.delay(100) == pytest.approx(1.0)
    assert hedger.delay(100 + 100 + BASE_TOKENS) == pytest.approx(2.0), "longer prompts may take longer"


def test_old_prefills_are_forgotten() -> None:
    hedger = Hedger(0.5)
    for seconds in [9.0] * REMEMBERED + [1.0] * REMEMBERED:
        hedger.took(0, seconds)
    assert hedger.delay(0) == pytest.approx(1.0)


@settings(max_examples=50, deadline=None)
@given(st.floats(0.01, 0.99), st.lists(st.floats(0.001, 100.0), min_size=MIN_KNOWN, max_size=600))
def test_about_the_share_answers_before(share: float, times: list[float]) -> None:
    hedger = Hedger(share)
    for seconds in times:
        hedger.took(0, seconds)
    recent = times[-REMEMBERED:]
    delay = hedger.delay(0)
    assert delay is not None
    before = sum(seconds < delay * (1 - 1e-9) for seconds in recent)
    until = sum(seconds <= delay * (1 + 1e-9) for seconds in recent)
    assert before <= share * len(recent) <= until
