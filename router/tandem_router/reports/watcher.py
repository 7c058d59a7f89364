"""Keeps the reports of all workers: a task for each, few of them at work at a time."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable

import grpc

from tandem_router.backoff import keep_up
from tandem_router.reports.book import ReportBook
from tandem_router.reports.native import follow_load
from tandem_router.reports.series import read_metrics, series_of
from tandem_router.types import Endpoint, Report

LEAST_INTERVAL = 1.0
MAX_PER_SECOND = 100
"""Scrapes of all workers together: with many of them each is asked less often."""
_AT_ONCE = 8
_NATIVE = "native"

Scrape = Callable[[Endpoint], Awaitable[bytes]]
"""Gets a worker's /metrics. Raises OSError; has its own timeout."""

_log = logging.getLogger(__name__)


class ReportWatcher:
    """`told` is called after each report."""

    def __init__(
        self, book: ReportBook, scrape: Scrape, clock: Callable[[], float], told: Callable[[], None]
    ) -> None:
        self._book, self._scrape, self._clock, self._told = book, scrape, clock, told
        self._tasks: dict[Endpoint, asyncio.Task[None]] = {}
        self._at_once = asyncio.Semaphore(_AT_ONCE)

    @property
    def interval(self) -> float:
        """Seconds from one scrape of a worker to the next."""
        return max(LEAST_INTERVAL, len(self._tasks) / MAX_PER_SECOND)

    def know(self, endpoints: Iterable[Endpoint]) -> None:
        """These are the workers now: the ready ones are asked."""
        ready = {e for e in endpoints if e.ready and (e.engine == _NATIVE or series_of(e.engine))}
        for endpoint in self._tasks.keys() - ready:
            self._tasks.pop(endpoint).cancel()
        self._book.keep(e.name for e in ready)
        for endpoint in ready - self._tasks.keys():
            streams = endpoint.engine == _NATIVE and endpoint.kv_port
            work = self._follow(endpoint) if streams else self._poll(endpoint)
            self._tasks[endpoint] = asyncio.get_running_loop().create_task(work)

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _poll(self, endpoint: Endpoint) -> None:
        failing = False
        while True:
            try:
                async with self._at_once:
                    report = await self._read(endpoint)
                if report is not None:
                    self._tell(endpoint.name, report)
                failing = False
            except (OSError, ValueError) as error:
                if not failing:
                    _log.info("no report of %s: %s", endpoint.name, error)
                failing = True
            self._book.age(endpoint.name, self._clock(), 3 * self.interval)
            await asyncio.sleep(self.interval * random.uniform(0.8, 1.2))  # noqa: S311 - spreads the work

    async def _read(self, endpoint: Endpoint) -> Report | None:
        series = series_of(endpoint.engine)
        return None if series is None else read_metrics(series, await self._scrape(endpoint))

    async def _follow(self, endpoint: Endpoint) -> None:
        host = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address

        async def attempt() -> None:
            async with grpc.aio.insecure_channel(f"{host}:{endpoint.kv_port}") as channel:
                await follow_load(channel, lambda report: self._tell(endpoint.name, report))

        def failed() -> None:
            self._book.age(endpoint.name, self._clock(), 0.0)

        failures = (grpc.aio.AioRpcError, OSError)
        await keep_up(attempt, failed, failures, f"following the load of {endpoint.name}")

    def _tell(self, worker: str, report: Report) -> None:
        self._book.heard(worker, report, self._clock())
        self._told()
