"""Keeps one process running and knows whether it is ready."""

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import aiohttp

from tandem_operator.local.child import Child
from tandem_operator.local.pods import Probe, ProcessSpec

_FIRST_PROBES = 0.2
_LONGEST_PAUSE = 30.0


class Supervised:
    """One process of the fleet. It is started again when it ends by itself, later and later.

    `on_change` is called when `ready` changes; `on_exit` with the status and last words of a process that
    ended by itself.
    """

    def __init__(
        self,
        spec: ProcessSpec,
        log: Path,
        session: aiohttp.ClientSession,
        on_change: Callable[["Supervised"], None],
        on_exit: Callable[["Supervised", int, str], None],
    ) -> None:
        self.spec = spec
        self.ready = False
        self.was_ready = False
        self._log = log
        self._session = session
        self._on_change = on_change
        self._on_exit = on_exit
        self._stopping = asyncio.Event()
        self._grace = 0.0
        self._child: Child | None = None
        self._pause = 1.0

    async def run(self, env: Mapping[str, str]) -> None:
        """Returns after `stop`; when cancelled the process is killed."""
        while not self._stopping.is_set():
            self._child = await Child.start(self.spec.argv, {**env, **self.spec.env}, self._log)
            if self._stopping.is_set():
                await self._child.end(self._grace)
                return
            status = await self._watch(self._child)
            if not self._stopping.is_set():
                self._on_exit(self, status, self._child.last_words())
                await self._wait_before_restart()

    async def stop(self, grace: float) -> None:
        """Ends the process: SIGTERM, and SIGKILL after `grace` seconds."""
        self._grace = grace
        self._stopping.set()
        if self._child is not None:
            await self._child.end(grace)

    async def _watch(self, child: Child) -> int:
        probing = asyncio.create_task(self._probe(self.spec.readiness))
        try:
            return await child.wait()
        finally:
            probing.cancel()
            self._become(ready=False)
            if not self._stopping.is_set():
                await child.end(0)

    async def _wait_before_restart(self) -> None:
        try:
            async with asyncio.timeout(self._pause):
                await self._stopping.wait()
        except TimeoutError:
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    async def _probe(self, probe: Probe) -> None:
        """Often until it is ready, then as the manifest says."""
        failures = 0
        while True:
            began = time.monotonic()
            if await self._answers(probe):
                failures, self._pause = 0, 1.0
                self._become(ready=True)
            else:
                failures += 1
                if failures >= probe.failures:
                    self._become(ready=False)
            period = probe.period if self.ready else min(_FIRST_PROBES, probe.period)
            await asyncio.sleep(max(0.0, period - (time.monotonic() - began)))

    async def _answers(self, probe: Probe) -> bool:
        try:
            timeout = aiohttp.ClientTimeout(total=probe.timeout)
            async with self._session.get(probe.url, timeout=timeout) as response:
                return 200 <= response.status < 400
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    def _become(self, *, ready: bool) -> None:
        if ready != self.ready:
            self.ready = ready
            self.was_ready = self.was_ready or ready
            self._on_change(self)
