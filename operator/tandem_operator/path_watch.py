"""The paths that the requests of each service took, read from its routers every half a minute."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

from tandem_operator.api import LLMService
from tandem_operator.paths import Paths, Route, disaggregating, enough
from tandem_operator.scaling import MetricsSource
from tandem_operator.telemetry.base import Telemetry, TelemetryError
from tandem_operator.telemetry.prometheus import PrometheusTelemetry
from tandem_operator.telemetry.readings import PATHS
from tandem_operator.telemetry.scrape import ScrapeTelemetry

INTERVAL = 30.0
WINDOW = 300.0

Sources = Callable[[str, str], Awaitable[Sequence[MetricsSource]]]
"""Namespace and service to its ready processes."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Entry:
    service: LLMService
    task: asyncio.Task[NoReturn]
    paths: Paths | None = None


class PathWatch:
    """Watches every service that hands over. `wake` asks for a pass when what status says would change."""

    def __init__(
        self,
        sources: Sources,
        wake: Callable[[str, str], None],
        clock: Callable[[], float],
        interval: float = INTERVAL,
    ) -> None:
        self._sources, self._wake, self._clock, self._interval = sources, wake, clock, interval
        self._entries: dict[tuple[str, str], _Entry] = {}

    def ensure(self, service: LLMService) -> None:
        """Start, feed or stop the watch of a service whose spec was accepted."""
        key = service.metadata.namespace, service.metadata.name
        finding = disaggregating(service, None)
        if finding is None or finding.holds is not None:
            self.stop(*key)
        elif key in self._entries:
            self._entries[key].service = service
        else:
            name = f"paths {key[0]}/{key[1]}"
            self._entries[key] = _Entry(service, asyncio.create_task(self._run(key), name=name))

    def stop(self, namespace: str, name: str) -> None:
        """The service is gone, or there is nothing to watch."""
        entry = self._entries.pop((namespace, name), None)
        if entry is not None:
            entry.task.cancel()

    def paths(self, namespace: str, name: str) -> Paths | None:
        """The last ones that said something."""
        entry = self._entries.get((namespace, name))
        return entry.paths if entry else None

    async def close(self) -> None:
        """Stop all of them and wait for their end."""
        tasks = [entry.task for entry in self._entries.values()]
        for key in list(self._entries):
            self.stop(*key)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, key: tuple[str, str]) -> NoReturn:
        prometheus = self._entries[key].service.spec.autoscaling.prometheus
        telemetry = self._open(key, prometheus)
        while True:
            wanted = self._entries[key].service.spec.autoscaling.prometheus
            if wanted != prometheus:
                prometheus, telemetry = wanted, self._open(key, wanted)
            try:
                await self._look(key, telemetry)
            except Exception:
                _log.exception("the paths of %s/%s could not be read", *key)
            await asyncio.sleep(self._interval)

    async def _look(self, key: tuple[str, str], telemetry: Telemetry) -> None:
        try:
            values = await telemetry.read((PATHS,), self._clock())
        except TelemetryError as error:
            _log.debug("no paths of %s/%s: %s", *key, error)
            return
        paths = {Route(*group): count for group, count in values[PATHS.key].items() if count > 0}
        entry = self._entries[key]
        if not enough(paths):
            return
        before, entry.paths = entry.paths, paths
        if disaggregating(entry.service, before) != disaggregating(entry.service, paths):
            self._wake(*key)

    def _open(self, key: tuple[str, str], prometheus: str | None) -> Telemetry:
        if prometheus:
            return PrometheusTelemetry(prometheus, *key, WINDOW)
        return ScrapeTelemetry(partial(self._routers, *key), key[1], WINDOW)

    async def _routers(self, namespace: str, name: str) -> Sequence[MetricsSource]:
        return [source for source in await self._sources(namespace, name) if source.component == "router"]
