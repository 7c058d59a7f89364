"""All processes of one service, and the endpoints file that tells the router of them."""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import aiohttp

from tandem_operator.api import Manifest
from tandem_operator.local import addresses, endpoints
from tandem_operator.local.pods import ProcessSpec, process
from tandem_operator.local.source import Deployments
from tandem_operator.local.supervised import Supervised

ROUTER_NOTICES = 1.0
"""Seconds within which the router has read a new endpoints file."""

Report = Callable[[str], None]


class StartError(RuntimeError):
    """A process of the fleet ended before it was ever ready."""


class Fleet:
    """Processes by pool. Use it in one event loop: `start`, `ready`, `scale` as often as wanted, `stop`."""

    def __init__(
        self,
        deployments: Deployments,
        model: str,
        folder: Path,
        session: aiohttp.ClientSession,
        report: Report,
    ) -> None:
        """`folder` takes the logs and the endpoints file; `report` gets one line for people at a time."""
        self._deployments = deployments
        self._model = model
        self._folder = folder
        self._file = folder / "endpoints.json"
        self._session = session
        self._report = report
        self._env = thread_limits(sum(d["spec"]["replicas"] for d in deployments.pools.values()))
        self._running: dict[str, Supervised] = {}
        self._leaving: dict[str, Supervised] = {}
        self._tasks: dict[Supervised, asyncio.Task[None]] = {}
        self._departures: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._broken: StartError | None = None
        self._up = False

    @property
    def processes(self) -> tuple[Supervised, ...]:
        """The router first, then the workers that were not told to leave, in the order of their start."""
        return tuple(self._running.values())

    def workers(self, pool: str) -> tuple[Supervised, ...]:
        return tuple(p for p in self._running.values() if p.spec.pool == pool)

    def start(self) -> None:
        """Starts everything at once. Raises NotLocalError, NoAddressError."""
        self._write_endpoints()
        self._launch(self._deployments.router, 0, addresses.ROUTER)
        for pool, deployment in self._deployments.pools.items():
            self.scale(pool, deployment["spec"]["replicas"])

    async def ready(self) -> None:
        """Returns when every process is ready. Raises StartError when one cannot be started."""
        while self._broken is None and not all(p.ready for p in self.processes):
            self._changed.clear()
            await self._changed.wait()
        if self._broken:
            raise self._broken
        self._up = True

    def scale(self, pool: str, replicas: int) -> None:
        """Starts workers, or lets the newest leave: out of the endpoints first, then drained, then ended."""
        deployment, workers = self._deployments.pools[pool], self.workers(pool)
        for _ in range(replicas - len(workers)):
            self._launch(deployment, self._free_ordinal(deployment), self._free_address(deployment))
        surplus = sorted(workers, key=lambda w: not w.ready)[replicas:] if replicas < len(workers) else []
        for worker in surplus:
            del self._running[worker.spec.name]
            self._leaving[worker.spec.name] = worker
            departure = asyncio.create_task(self._depart(worker))
            self._departures.add(departure)
            departure.add_done_callback(self._departures.discard)
        self._write_endpoints()

    async def stop(self, grace: float) -> None:
        """Ends all processes at once, within `grace` seconds. Call it again with 0 to be rid of them now."""
        everything = [*self._running.values(), *self._leaving.values()]
        await asyncio.gather(*(process.stop(min(grace, process.spec.grace)) for process in everything))
        await asyncio.gather(*self._tasks.values(), *self._departures, return_exceptions=True)

    def _launch(self, deployment: Manifest, ordinal: int, address: str) -> None:
        spec = process(deployment, ordinal, address, f"file:{self._file}")
        log = self._folder / f"{spec.name}.log"
        log.unlink(missing_ok=True)
        supervised = Supervised(spec, log, self._session, self._on_change, self._on_exit)
        self._running[spec.name] = supervised
        task = asyncio.create_task(supervised.run(self._env), name=spec.name)
        task.add_done_callback(self._on_end)
        self._tasks[supervised] = task

    async def _depart(self, worker: Supervised) -> None:
        await asyncio.sleep(ROUTER_NOTICES)
        await worker.stop(worker.spec.grace)
        await asyncio.wait([self._tasks.pop(worker)])
        del self._leaving[worker.spec.name]
        self._report(f"{worker.spec.name} has left")

    def _free_ordinal(self, deployment: Manifest) -> int:
        name, taken = deployment["metadata"]["name"], {*self._running, *self._leaving}
        return next(n for n in range(len(taken) + 1) if f"{name}-{n}" not in taken)

    def _free_address(self, deployment: Manifest) -> str:
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        everything = [*self._running.values(), *self._leaving.values()]
        taken = {process.spec.address for process in everything}
        return addresses.free_address(taken, [port["containerPort"] for port in container["ports"]])

    def _write_endpoints(self) -> None:
        workers = [(p.spec, p.ready) for p in self._running.values() if p.spec.pool]
        endpoints.write(self._file, endpoints.document(workers, self._model))

    def _on_change(self, changed: Supervised) -> None:
        self._write_endpoints()
        self._changed.set()
        if changed.spec.name in self._running and changed.ready:
            self._report(f"{changed.spec.name} is ready at {_url(changed.spec)}")

    def _on_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self._broken = StartError(f"cannot run {task.get_name()}: {error}")
            self._changed.set()
            self._report(str(self._broken))

    def _on_exit(self, ended: Supervised, status: int, words: str) -> None:
        if status < 0:
            text = f"{ended.spec.name} was ended by signal {-status} ({signal.strsignal(-status)})"
        else:
            text = f"{ended.spec.name} ended with status {status}" + (f": {words}" if words else "")
        if self._up or ended.was_ready:
            self._report(f"{text}; it will be started again")
        elif self._broken is None:
            self._broken = StartError(text)
        self._changed.set()


def thread_limits(workers: int) -> Mapping[str, str]:
    """Shares the machine's cores among the workers: each would take all of them for its matrix products."""
    share = max(1, (os.cpu_count() or 1) // max(1, workers))
    return {name: os.environ.get(name, str(share)) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}


def _url(spec: ProcessSpec) -> str:
    return f"http://{spec.address}:{spec.ports['http']}"
