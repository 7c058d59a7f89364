"""How long answers get: quantiles of the last ones of the same kind (S3, NeurIPS 2023)."""

from bisect import bisect_left, insort
from collections import deque
from typing import NamedTuple

from tandem_router.types import RequestInfo

WINDOW = 256
ENOUGH = 8
"""From so many answers on a kind is judged by its own."""
UNKNOWN = 256


class Expected(NamedTuple):
    """Output tokens: the mean, and what nine of ten answers stay within."""

    mean: float
    p90: float


class _Window:
    """The last lengths, in order of time and of size."""

    def __init__(self) -> None:
        self._recent: deque[int] = deque()
        self._sorted: list[int] = []
        self._sum = 0

    def add(self, tokens: int) -> None:
        self._recent.append(tokens)
        insort(self._sorted, tokens)
        self._sum += tokens
        if len(self._recent) > WINDOW:
            oldest = self._recent.popleft()
            del self._sorted[bisect_left(self._sorted, oldest)]
            self._sum -= oldest

    def expected(self) -> Expected | None:
        count = len(self._sorted)
        if count < ENOUGH:
            return None
        return Expected(self._sum / count, float(self._sorted[min(count - 1, count * 9 // 10)]))


class OutputLengths:
    """By model, class and the size of `max_tokens`; a kind that is new is judged by its model.

    Models and classes are the configured ones, so the kinds are bounded.
    """

    def __init__(self) -> None:
        self._windows: dict[tuple[str, str, int], _Window] = {}

    def observe(self, request: RequestInfo, output_tokens: int) -> None:
        for key in (_kind(request), (request.model, "", 0)):
            window = self._windows.get(key)
            if window is None:
                window = self._windows[key] = _Window()
            window.add(output_tokens)

    def expected(self, request: RequestInfo) -> Expected:
        """Never more than the request's own limit."""
        limit = request.max_tokens
        found = self._known(_kind(request)) or self._known((request.model, "", 0))
        if found is None:
            tokens = float(limit if limit is not None else UNKNOWN)
            return Expected(tokens, tokens)
        if limit is None:
            return found
        return Expected(min(found.mean, limit), min(found.p90, limit))

    def _known(self, key: tuple[str, str, int]) -> Expected | None:
        window = self._windows.get(key)
        return None if window is None else window.expected()


def _kind(request: RequestInfo) -> tuple[str, str, int]:
    """Limits within a factor of two are one kind; no limit is one of its own."""
    return request.model, request.service_class, 1 + (request.max_tokens or 0).bit_length()
