"""The health of all workers: outcomes of legs in, the names of ejected workers out. Pure."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from tandem_router.health.breaker import Breaker, BreakerSettings, Reason
from tandem_router.health.outliers import failing, slow
from tandem_router.health.window import Window
from tandem_router.types import Endpoint, Role

WINDOW_SECONDS = 30.0
LOOK_SECONDS = 2.0
LOOK_SECONDS_PER_WORKER = 0.01
"""How often workers are compared with their pools, at most: it takes some microseconds for each."""

_NOBODY: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Change:
    """A worker was ejected for `seconds`, or is back: `reason` None."""

    endpoint: Endpoint
    reason: Reason | None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """`max_share`: the share of a pool that may be ejected for being worse than the rest."""

    breaker: BreakerSettings = field(default_factory=BreakerSettings)
    max_share: float = 0.5


@dataclass(slots=True)
class _Worker:
    endpoint: Endpoint
    breaker: Breaker
    window: Window = field(default_factory=lambda: Window(WINDOW_SECONDS))


class HealthBook:
    """`changed` hears of each ejection and return, and of nothing else.

    Where nobody would be left to decode a model, all who can are kept: bad workers are better than none.
    Prefill workers may all be ejected, since decode workers can do without.
    """

    def __init__(self, settings: HealthSettings, changed: Callable[[Change], None]) -> None:
        self._settings, self._changed = settings, changed
        self._workers: dict[str, _Worker] = {}
        self._open: dict[str, _Worker] = {}
        self._ejected, self._good_until = _NOBODY, 0.0
        self._next_look = 0.0

    def know(self, endpoints: Iterable[Endpoint]) -> None:
        """The workers that there are now; the others are forgotten, and so is one with a new address."""
        known: dict[str, _Worker] = {}
        for endpoint in endpoints:
            old = self._workers.get(endpoint.name)
            if old is not None and _address(old.endpoint) == _address(endpoint):
                old.endpoint = endpoint
                known[endpoint.name] = old
            else:
                known[endpoint.name] = _Worker(endpoint, Breaker(self._settings.breaker))
        for name in [name for name, worker in self._open.items() if known.get(name) is not worker]:
            self._changed(Change(self._open.pop(name).endpoint, None))
        self._workers = known
        self._good_until = 0.0

    def ejected(self, now: float) -> frozenset[str]:
        """Who gets no requests at `now`. Cheap: it is asked for each request."""
        if not self._open:
            return _NOBODY
        if now >= self._good_until:
            self._ejected = self._barred(now)
        return self._ejected

    def started(self, name: str, now: float) -> None:
        """A request is sent to the worker."""
        worker = self._open.get(name)
        if worker is not None:
            worker.breaker.started(now)
            self._good_until = 0.0

    def succeeded(self, name: str, now: float) -> None:
        """A leg was answered; of a stream, its first token came."""
        worker = self._workers.get(name)
        if worker is None:
            return
        worker.window.add(now, outcomes=1)
        if worker.breaker.succeeded(now):
            worker.window.clear()
            del self._open[name]
            self._good_until = 0.0
            self._changed(Change(worker.endpoint, None))
        self._look(now)

    def failed(self, name: str, now: float) -> None:
        """A leg failed through the worker's fault: it could not be reached, broke off, or answered 5xx."""
        worker = self._workers.get(name)
        if worker is None:
            return
        worker.window.add(now, failures=1, outcomes=1)
        if worker.breaker.failed(now):
            self._opened(worker, now)
        self._look(now)

    def paced(self, name: str, seconds: float, now: float) -> None:
        """A stream ended well: its mean time per output token after the first."""
        worker = self._workers.get(name)
        if worker is not None:
            worker.window.add(now, pace=seconds)

    def _look(self, now: float) -> None:
        if now < self._next_look:
            return
        self._next_look = now + LOOK_SECONDS + LOOK_SECONDS_PER_WORKER * len(self._workers)
        pools: dict[str, list[_Worker]] = defaultdict(list)
        for worker in self._workers.values():
            if worker.endpoint.ready:
                pools[worker.endpoint.pool].append(worker)
        for workers in pools.values():
            windows = {w.endpoint.name: w.window for w in workers if w.breaker.reason is None}
            self._eject(slow(windows, now) | failing(windows, now), workers, now)

    def _eject(self, found: Mapping[str, Reason], workers: list[_Worker], now: float) -> None:
        out = sum(w.breaker.reason is not None for w in workers)
        room = int(len(workers) * self._settings.max_share) - out
        for name, reason in list(found.items())[: max(0, room)]:
            worker = self._workers[name]
            worker.breaker.open(reason, now)
            self._opened(worker, now)

    def _opened(self, worker: _Worker, now: float) -> None:
        self._open[worker.endpoint.name] = worker
        self._good_until = 0.0
        self._changed(Change(worker.endpoint, worker.breaker.reason, worker.breaker.until - now))

    def _barred(self, now: float) -> frozenset[str]:
        """Also notes until when this holds."""
        barred = [worker for worker in self._open.values() if worker.breaker.bars(now)]
        self._good_until = min((worker.breaker.until for worker in barred), default=float("inf"))
        served = {
            w.endpoint.model
            for w in self._workers.values()
            if _decodes(w.endpoint) and not w.breaker.bars(now)
        }
        endpoints = (w.endpoint for w in barred)
        return frozenset(e.name for e in endpoints if not _decodes(e) or e.model in served)


def _address(endpoint: Endpoint) -> tuple[str, int]:
    return endpoint.address, endpoint.port


def _decodes(endpoint: Endpoint) -> bool:
    return endpoint.ready and endpoint.role is not Role.PREFILL
