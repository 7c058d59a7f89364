"""The seam between the planner and its metrics."""

from collections.abc import Sequence
from typing import Protocol

from tandem_operator.planner.types import Observation
from tandem_operator.telemetry.readings import Reading, Values


class TelemetryError(Exception):
    """There is no observation now. `reason` is one of a few words for metrics, the text is for people."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Telemetry(Protocol):
    """Observes one service."""

    async def observe(self, now: float) -> Observation:
        """The service over the window that ends now. Raises TelemetryError; returns within a few seconds."""

    async def read(self, readings: Sequence[Reading], now: float) -> Values:
        """Single readings, for other questions. Raises TelemetryError."""
