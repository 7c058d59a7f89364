"""Counts of the last seconds. Pure."""

from dataclasses import dataclass


@dataclass(slots=True)
class Window:
    """Failures, outcomes and paces of the last one to two periods of `seconds`."""

    seconds: float
    _began: float = 0.0
    _now: tuple[int, int, int, float] = (0, 0, 0, 0.0)
    _before: tuple[int, int, int, float] = (0, 0, 0, 0.0)

    def add(self, now: float, *, failures: int = 0, outcomes: int = 0, pace: float | None = None) -> None:
        """`pace`: seconds per output token of one stream."""
        self._turn(now)
        failed, ended, paced, total = self._now
        if pace is not None:
            paced, total = paced + 1, total + pace
        self._now = failed + failures, ended + outcomes, paced, total

    def clear(self) -> None:
        self._now = self._before = (0, 0, 0, 0.0)

    def failure_share(self, now: float, at_least: int) -> float | None:
        """None with fewer than `at_least` outcomes."""
        self._turn(now)
        outcomes = self._now[1] + self._before[1]
        return None if outcomes < at_least else (self._now[0] + self._before[0]) / outcomes

    def mean_pace(self, now: float, at_least: int) -> float | None:
        """None with fewer than `at_least` streams."""
        self._turn(now)
        count = self._now[2] + self._before[2]
        return None if count < at_least else (self._now[3] + self._before[3]) / count

    def _turn(self, now: float) -> None:
        if now < self._began + self.seconds:
            return
        self._before = self._now if now < self._began + 2 * self.seconds else (0, 0, 0, 0.0)
        self._now = (0, 0, 0, 0.0)
        self._began = now
