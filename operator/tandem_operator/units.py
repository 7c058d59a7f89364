"""Kubernetes-style durations and quantities: the patterns for schemas, the numbers for code."""

import re
from decimal import Decimal

_NUMBER = r"[0-9]{1,12}(\.[0-9]{1,6})?"
_POSITIVE = r"([1-9][0-9]{0,5}(\.[0-9]{1,3})?|0\.[0-9]{0,2}[1-9])"
POSITIVE_DURATION = rf"^{_POSITIVE}(ms|s|m|h)$"
DURATION = rf"^(0|{_POSITIVE})(ms|s|m|h)$"
QUANTITY = rf"^{_NUMBER}(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_FACTORS = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTP", start=1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTP", start=1)},
}


def seconds(duration: str) -> float:
    """Seconds in a duration such as `500ms`, `40ms` or `1.5h`; ValueError if it is none."""
    match = re.fullmatch(r"([0-9.]+)(ms|s|m|h)", duration)
    if match is None or re.match(DURATION, duration) is None:
        raise ValueError(f"{duration!r} is no duration: write a number and ms, s, m or h, such as 500ms")
    return float(match[1]) * _SECONDS[match[2]]


def quantity(text: str | int | float) -> Decimal:
    """The number behind a resource quantity such as `500m` or `1Gi`; ValueError if it is none."""
    match = re.fullmatch(rf"({_NUMBER})([A-Za-z]*)", str(text))
    if match is None or match[3] not in _FACTORS:
        raise ValueError(f"{text!r} is no quantity: write a number and a unit, such as 500m or 1Gi")
    return Decimal(match[1]) * _FACTORS[match[3]]
