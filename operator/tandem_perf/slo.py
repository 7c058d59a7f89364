"""Latency objectives and what they say of finished requests: attainment and goodput."""

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Slo:
    """Objectives in seconds, and the share of requests (0 to 1) that must meet both."""

    ttft: float
    tpot: float
    attainment: float = 0.95

    def __post_init__(self) -> None:
        if not (self.ttft > 0 and self.tpot > 0 and math.isfinite(self.ttft) and math.isfinite(self.tpot)):
            raise ValueError(f"ttft and tpot must be positive: {self.ttft}, {self.tpot}")
        if not 0 < self.attainment <= 1:
            raise ValueError(f"attainment must be above 0 and at most 1: {self.attainment}")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One finished request: TTFT, and mean time per output token after it (None: one token), in seconds."""

    ttft: float
    tpot: float | None = None

    def meets(self, slo: Slo) -> bool:
        return self.meets_ttft(slo) and self.meets_tpot(slo)

    def meets_ttft(self, slo: Slo) -> bool:
        return self.ttft <= slo.ttft

    def meets_tpot(self, slo: Slo) -> bool:
        return self.tpot is None or self.tpot <= slo.tpot


@dataclass(frozen=True, slots=True)
class Report:
    """Shares of `requests` that met an objective; None when there were none."""

    requests: int
    ttft: float | None
    tpot: float | None
    both: float | None


@dataclass(frozen=True, slots=True)
class LoadPoint:
    """What one load level gave: offered `rate` (requests/s or a multiplier) and attainment of both."""

    rate: float
    attainment: float


def mean_tpot(ttft: float, duration: float, output_tokens: int) -> float | None:
    """Seconds per output token after the first, from one request's times; None for a single token."""
    return (duration - ttft) / (output_tokens - 1) if output_tokens > 1 else None


def attainment(outcomes: Iterable[Outcome], slo: Slo) -> Report:
    """The share of requests that met each objective and both. A failed one counts with `ttft=math.inf`."""
    ttft, tpot, both, requests = 0, 0, 0, 0
    for outcome in outcomes:
        requests += 1
        ttft += outcome.meets_ttft(slo)
        tpot += outcome.meets_tpot(slo)
        both += outcome.meets(slo)
    if not requests:
        return Report(0, None, None, None)
    return Report(requests, ttft / requests, tpot / requests, both / requests)


def goodput(outcomes: Iterable[Outcome], slo: Slo, seconds: float) -> float:
    """Requests per second that met both objectives (DistServe, OSDI 2024, section 2)."""
    if seconds <= 0:
        raise ValueError(f"seconds must be positive: {seconds}")
    return sum(outcome.meets(slo) for outcome in outcomes) / seconds


def highest_rate(points: Iterable[LoadPoint], target: float) -> float:
    """The highest rate up to which every measured load level reached `target`; 0 if the lowest did not.

    A level that happens to pass above one that fails does not count: the fleet cannot be run there.
    """
    best = 0.0
    for point in sorted(points, key=lambda p: p.rate):
        if point.attainment < target:
            break
        best = point.rate
    return best
