"""`tandem up`, without the command line: start the fleet, plan it, stop it on a signal."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
from prometheus_client import CollectorRegistry

from tandem_operator.api import LLMService
from tandem_operator.local.fleet import ROUTER_NOTICES, Fleet
from tandem_operator.local.source import deployments
from tandem_operator.local.target import LocalTarget
from tandem_operator.planner.loop import PlannerLoop
from tandem_operator.planner.publish import PLANNER_METRICS, PlannerMetrics
from tandem_wire.collectors import Collectors

GRACE = 10.0
"""Seconds that requests have to end after Ctrl-C; a second Ctrl-C ends them at once."""

Say = Callable[[str], None]


async def serve(service: LLMService, folder: Path, report: Say, announce: Callable[[], None]) -> None:
    """Runs the service until SIGINT or SIGTERM. `announce` is called once everything is ready.

    Raises StartError when a process cannot be started, NotLocalError and NoAddressError before any is.
    """
    began = time.monotonic()

    def timed(text: str) -> None:
        report(f"{time.monotonic() - began:6.1f} s  {text}")

    async with aiohttp.ClientSession() as session:
        fleet = Fleet(deployments(service), service.spec.model.name, folder, session, timed)
        async with _interruptible() as interrupted:
            try:
                fleet.start()
                if await _unless(interrupted, _ready(fleet)):
                    announce()
                    await _unless(interrupted, _plan(service, fleet, timed))
            finally:
                interrupted.clear()
                report("stopping")
                await _stop(fleet, interrupted)
                report("stopped")


async def _ready(fleet: Fleet) -> None:
    await fleet.ready()
    await asyncio.sleep(ROUTER_NOTICES)


async def _plan(service: LLMService, fleet: Fleet, report: Say) -> None:
    metrics = PlannerMetrics(Collectors(PLANNER_METRICS, CollectorRegistry()))
    await PlannerLoop(lambda: service, LocalTarget(service, fleet, report), metrics).run()


async def _stop(fleet: Fleet, interrupted: asyncio.Event) -> None:
    ending = asyncio.create_task(fleet.stop(GRACE))
    again = asyncio.create_task(interrupted.wait())
    await asyncio.wait({ending, again}, return_when=asyncio.FIRST_COMPLETED)
    again.cancel()
    if not ending.done():
        await fleet.stop(0)
    await ending


@asynccontextmanager
async def _interruptible() -> AsyncIterator[asyncio.Event]:
    """An event that SIGINT and SIGTERM set."""
    interrupted, loop = asyncio.Event(), asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        loop.add_signal_handler(number, interrupted.set)
    try:
        yield interrupted
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


async def _unless(interrupted: asyncio.Event, work: Coroutine[None, None, None]) -> bool:
    """Whether `work` ended before the interruption; if not it is cancelled."""
    task, stop = asyncio.create_task(work), asyncio.create_task(interrupted.wait())
    await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if task.done():
        await task
        return True
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return False
