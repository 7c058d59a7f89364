"""Durations and quantities as Kubernetes writes them."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem_operator.units import quantity, seconds


@pytest.mark.parametrize(
    ("text", "value"),
    [("500ms", 0.5), ("40ms", 0.04), ("15s", 15.0), ("1.5m", 90.0), ("2h", 7200.0), ("0s", 0.0)],
)
def test_a_duration_is_read_as_seconds(text: str, value: float) -> None:
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize(
    "text", ["", "500", "ms", "1d", "-1s", "1 s", "1s\n", "1h30m", "..s", "1e3s", "\u0661s"]
)
def test_what_is_no_duration_says_so(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        seconds(text)


@given(st.integers(1, 999_999), st.sampled_from(["ms", "s", "m", "h"]))
def test_every_whole_number_of_a_unit_is_a_duration(number: int, unit: str) -> None:
    assert seconds(f"{number}{unit}") == pytest.approx(
        number * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit]
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [("1000m", "1"), ("0.5", "500m"), ("1Gi", "1024Mi"), ("1k", "1000"), ("1.5Gi", "1536Mi")],
)
def test_equal_quantities_have_equal_values(one: str, other: str) -> None:
    assert quantity(one) == quantity(other)


def test_a_quantity_may_be_a_number() -> None:
    assert quantity(2) == Decimal(2)


@pytest.mark.parametrize("text", ["", "1GB", "-1", "Mi", "1e3", "nan"])
def test_what_is_no_quantity_says_so(text: str) -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        quantity(text)
