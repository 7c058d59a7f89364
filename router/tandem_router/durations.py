"""Durations as people write them: 500ms, 1.5s, 2m, 1h."""

import re

_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float:
    """Seconds, more than zero. Raises ValueError for anything else."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h)", text)
    seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if not seconds:
        raise ValueError(
            f"{text!r} is no duration: write a number above zero and ms, s, m or h, such as 500ms"
        )
    return seconds
