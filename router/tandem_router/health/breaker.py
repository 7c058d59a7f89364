"""One worker's circuit breaker (Nygard, Release It!, chapter 5). Pure.

closed -> open for a time -> half open: one request goes through as a probe. It succeeds: closed. It fails:
open again, for twice as long. It says nothing: after as long again the next probe goes through.
"""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why a worker was ejected."""

    IN_A_ROW = "failures_in_a_row"
    SHARE = "failure_share"
    OUTLIER = "fails_more_than_pool"
    SLOW = "slower_than_pool"


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """`in_a_row`: failures that open the circuit. Open times, in seconds, double from first to longest."""

    in_a_row: int = 5
    first_open: float = 1.0
    longest_open: float = 30.0


@dataclass(slots=True)
class Breaker:
    """`reason` None: closed. Else no requests until `until`, and then one probe for each open time."""

    settings: BreakerSettings
    reason: Reason | None = None
    until: float = 0.0
    in_a_row: int = 0
    _open_seconds: float = 0.0
    _closed_at: float = 0.0
    _probing: bool = False

    def bars(self, now: float) -> bool:
        return self.reason is not None and now < self.until

    def started(self, now: float) -> None:
        """A request went to the worker: if the circuit was half open, it is the probe."""
        if self.reason is not None and now >= self.until:
            self.until = now + self._open_seconds
            self._probing = True

    def succeeded(self, now: float) -> bool:
        """True: this closed the circuit. Requests from before it opened do not count."""
        self.in_a_row = 0
        if not self._probing:
            return False
        self.reason, self._probing, self._closed_at = None, False, now
        return True

    def failed(self, now: float) -> bool:
        """True: this opened the circuit, or the probe failed."""
        self.in_a_row += 1
        if self._probing or (self.reason is None and self.in_a_row >= self.settings.in_a_row):
            self.open(self.reason or Reason.IN_A_ROW, now)
            return True
        return False

    def open(self, reason: Reason, now: float) -> None:
        """A circuit that opens soon after it closed stays open for longer."""
        settings = self.settings
        was_sound = self.reason is None and now - self._closed_at > settings.longest_open
        longer = settings.first_open if was_sound else self._open_seconds * 2
        self._open_seconds = min(max(longer, settings.first_open), settings.longest_open)
        self.reason, self._probing = reason, False
        self.until = now + self._open_seconds
