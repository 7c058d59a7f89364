"""Observations from the `/metrics` of routers and workers themselves, where there is no Prometheus."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tandem_operator.planner.types import Observation
from tandem_operator.scaling import MetricsSource
from tandem_operator.telemetry.assemble import assemble
from tandem_operator.telemetry.base import TelemetryError
from tandem_operator.telemetry.history import History, Series
from tandem_operator.telemetry.readings import PATHS, READINGS, Reading, Values

_log = logging.getLogger(__name__)
_TIMEOUT = aiohttp.ClientTimeout(total=3)
_MAX_CONNECTIONS = 32
_SAMPLES = frozenset(reading.sample for reading in (*READINGS, PATHS))

Sources = Callable[[], Awaitable[Sequence[MetricsSource]]]


class ScrapeTelemetry:
    """Scrapes every source at each observation and remembers one window of samples."""

    def __init__(self, sources: Sources, service: str, window: float) -> None:
        self._sources = sources
        self._selector = {"llmservice": service}
        self._window = window
        self._history = History(window)

    async def observe(self, now: float) -> Observation:
        """Sources that do not answer are left out: the observation then counts fewer workers."""
        return assemble(await self.read(READINGS, now), self._window)

    async def read(self, readings: Sequence[Reading], now: float) -> Values:
        """The readings over the window that ends now. Raises TelemetryError."""
        sources = await self._sources()
        connector = aiohttp.TCPConnector(limit=_MAX_CONNECTIONS)
        async with aiohttp.ClientSession(timeout=_TIMEOUT, connector=connector) as session:
            answers = await asyncio.gather(*(_scrape(session, source) for source in sources))
        reached = [samples for samples in answers if samples is not None]
        if not reached:
            text = f"none of {len(sources)} ready processes" if sources else "no process is ready, so none"
            raise TelemetryError("unreachable", f"{text} gave metrics")
        self._history.record({series: v for samples in reached for series, v in samples.items()}, now)
        return {reading.key: self._history.read(reading, self._selector) for reading in readings}


async def _scrape(session: aiohttp.ClientSession, source: MetricsSource) -> dict[Series, float] | None:
    try:
        async with session.get(source.url) as response:
            response.raise_for_status()
            return parse(source.name, await response.text())
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        _log.warning("no metrics from %s: %s", source.url, error or type(error).__name__)
        return None


def parse(target: str, exposition: str) -> dict[Series, float]:
    """The samples that are read, from Prometheus' text format; ValueError if it is not that."""
    return {
        Series(target, sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
        if sample.name in _SAMPLES
    }
