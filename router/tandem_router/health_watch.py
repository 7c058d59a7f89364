"""The workers' health for the running router: clock, log and metrics around `health/`."""

import logging
from collections.abc import Callable, Iterable

from tandem_router.durations import parse_duration
from tandem_router.health.book import Change, HealthBook, HealthSettings
from tandem_router.health.breaker import BreakerSettings
from tandem_router.metrics import RouterMetrics
from tandem_router.moves import Failure, Kind, Leg
from tandem_router.types import Choice, Endpoint
from tandem_wire.router_settings import Recovery

_NO_FAULT = frozenset({Kind.BUSY, Kind.LEASE})
_log = logging.getLogger(__name__)


class HealthWatch:
    """Hears of every leg; says which workers are ejected now.

    `stall`: after so many seconds without a token a stream has lost its worker.
    """

    def __init__(self, recovery: Recovery, metrics: RouterMetrics, clock: Callable[[], float]) -> None:
        self.stall = parse_duration(recovery.stall)
        settings = HealthSettings(BreakerSettings(recovery.failures_in_a_row), recovery.max_ejected)
        self._book = HealthBook(settings, self._changed)
        self._metrics, self._clock = metrics, clock

    def know(self, endpoints: Iterable[Endpoint]) -> None:
        """The workers that discovery sees."""
        self._book.know(endpoints)

    def ejected(self) -> frozenset[str]:
        return self._book.ejected(self._clock())

    def started(self, name: str) -> None:
        self._book.started(name, self._clock())

    def succeeded(self, name: str) -> None:
        self._book.succeeded(name, self._clock())

    def paced(self, name: str, seconds: float) -> None:
        """A stream ended: its mean time per output token."""
        self._book.paced(name, seconds, self._clock())

    def failed(self, failure: Failure, choice: Choice, *, pulls: bool) -> None:
        """A leg of this choice failed. `pulls`: the decode leg was to fetch KV, so either may be at fault."""
        if failure.kind in _NO_FAULT:
            return
        now = self._clock()
        if failure.leg is Leg.DECODE:
            self._book.failed(choice.decode.name, now)
        if choice.prefill is not None and (
            failure.leg is Leg.PREFILL or (pulls and failure.kind is not Kind.CONNECT)
        ):
            self._book.failed(choice.prefill.name, now)

    def _changed(self, change: Change) -> None:
        endpoint = change.endpoint
        if change.reason is None:
            _log.info("worker %s gets requests again", endpoint.name)
        else:
            seconds, reason = change.seconds, change.reason
            _log.warning("worker %s is ejected for %.1f s: %s", endpoint.name, seconds, reason)
        self._metrics.ejected(endpoint, change.reason)
