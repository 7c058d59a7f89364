"""Durations as people write them in a resource: `500ms`, `1.5s`, `2m`, `1h30m` -> seconds."""

import math
import re

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_NUMBER, _UNIT = r"[0-9]+(?:\.[0-9]+)?", "us|ms|s|m|h"
DURATION_PATTERN = rf"^(?:{_NUMBER}(?:{_UNIT}))+$"
"""For the resource's schema: what `parse_duration` accepts (zero aside)."""


def parse_duration(text: str) -> float:
    """Seconds of a Kubernetes-style duration. Raises ValueError unless it is one, and positive."""
    if not re.fullmatch(DURATION_PATTERN, text):
        raise ValueError(f"{text!r} is not a duration: write it like 500ms, 1.5s, 2m or 1h30m")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in re.findall(rf"({_NUMBER})({_UNIT})", text))
    if not 0 < seconds < math.inf:
        raise ValueError(f"{text!r} must be longer than zero and finite")
    return seconds


def format_duration(seconds: float) -> str:
    """Seconds as a person reads them: `0.41 s`, `40 ms`, `2 min`."""
    if seconds < 0.1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min"
