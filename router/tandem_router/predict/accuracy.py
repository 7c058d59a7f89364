"""How good predictions are: the median of their relative errors over the last ones."""

from bisect import bisect_left, insort
from collections import deque

WINDOW = 512


class Accuracy:
    """Relative errors |predicted - measured| / measured, in order of time and of size."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque()
        self._sorted: list[float] = []

    def observe(self, predicted: float, measured: float) -> None:
        if measured <= 0:
            return
        error = abs(predicted - measured) / measured
        self._recent.append(error)
        insort(self._sorted, error)
        if len(self._recent) > WINDOW:
            del self._sorted[bisect_left(self._sorted, self._recent.popleft())]

    @property
    def median(self) -> float | None:
        return self._sorted[len(self._sorted) // 2] if self._sorted else None
