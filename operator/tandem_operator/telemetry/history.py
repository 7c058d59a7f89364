"""Samples of scraped series over a window, and the folds that Prometheus would compute from them."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tandem_operator.telemetry.readings import Fold, Reading


@dataclass(frozen=True, slots=True)
class Series:
    """One series of one process."""

    target: str
    sample: str
    labels: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Point:
    at: float
    value: float


class History:
    """The last `window` seconds of every series that was recorded."""

    def __init__(self, window: float) -> None:
        self._window = window
        self._points: dict[Series, deque[Point]] = {}
        self._latest: frozenset[Series] = frozenset()
        self._now = 0.0

    def record(self, samples: Mapping[Series, float], now: float) -> None:
        """One scrape of all processes. A series that is not in `samples` is gone, or its process is."""
        for series, value in samples.items():
            self._points.setdefault(series, deque()).append(Point(now, value))
        for series in list(self._points):
            points = self._points[series]
            while points and points[0].at < now - self._window:
                points.popleft()
            if not points:
                del self._points[series]
        self._latest, self._now = frozenset(samples), now

    def read(self, reading: Reading, selector: Mapping[str, str]) -> dict[tuple[str, ...], float]:
        """The reading over series with the labels of `selector`."""
        of_window = reading.fold is Fold.INCREASE
        groups: dict[tuple[str, ...], list[float]] = {}
        for series, points in self._points.items():
            labels = dict(series.labels)
            if series.sample != reading.sample or not _matches(labels, reading, selector):
                continue
            group = tuple(labels.get(name, "") for name in reading.by)
            if of_window and len(points) > 1:
                value = increase(points, self._now - self._window, self._now)
                groups.setdefault(group, []).append(value)
            elif not of_window and series in self._latest:
                groups.setdefault(group, []).append(points[-1].value)
        return {group: _fold(reading.fold, values) for group, values in groups.items()}


def increase(points: Sequence[Point], start: float, end: float) -> float:
    """A counter's increase from `start` to `end`, as Prometheus' `increase()` has it; two points or more.

    Falls are resets. The increase between the first and the last point is extrapolated to the ends of the
    range, to half a sampling interval where the nearest point is farther away, and never below a count of 0.
    """
    grown = sum(b.value - a.value if b.value >= a.value else b.value for a, b in pairwise(points))
    sampled = points[-1].at - points[0].at
    if sampled <= 0:
        return 0.0
    interval = sampled / (len(points) - 1)
    before, after = points[0].at - start, end - points[-1].at
    if before >= 1.1 * interval:
        before = interval / 2
    if grown > 0:
        before = min(before, sampled * points[0].value / grown)
    if after >= 1.1 * interval:
        after = interval / 2
    return grown * (before + sampled + after) / sampled


def _matches(labels: Mapping[str, str], reading: Reading, selector: Mapping[str, str]) -> bool:
    return all(labels.get(name, "") == value for name, value in selector.items()) and all(
        labels.get(name, "") in values for name, values in reading.match.items()
    )


def _fold(fold: Fold, values: Iterable[float]) -> float:
    numbers = list(values)
    if fold is Fold.COUNT:
        return float(len(numbers))
    return sum(numbers) / len(numbers) if fold is Fold.MEAN else sum(numbers)
