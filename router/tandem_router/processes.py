"""One router of several processes: they share a port, and the kernel deals connections out (SO_REUSEPORT).

Each process routes by itself, as replicas do; their /metrics is one. A process that ends is started again,
unless that happens again and again; a signal reaches all of them.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
import tempfile
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from prometheus_client.multiprocess import mark_process_dead

from tandem_router.exposition import SHARED

PORT = "TANDEM_ROUTER_SHARED_PORT"
"""Set for each of the processes: the port that they listen on."""
MAX_RESTARTS = 5
RESTART_WINDOW_SECONDS = 60.0
RESTART_PAUSE_SECONDS = 0.5

_log = logging.getLogger(__name__)


def shared_port() -> int | None:
    """The port to share, in one of several processes; None elsewhere."""
    given = os.environ.get(PORT)
    return None if given is None else int(given)


def run_processes(count: int, host: str, port: int) -> int:
    """Runs this very command `count` times on one port until a signal. Returns the exit status.

    Raises OSError if the port is taken.
    """
    with tempfile.TemporaryDirectory(prefix="tandem-router-") as folder, _reserved(host, port) as reserved:
        environment = {**os.environ, PORT: str(reserved.getsockname()[1]), SHARED: folder}
        return asyncio.run(Supervisor(sys.orig_argv, environment, folder).run(count))


def _reserved(host: str, port: int) -> socket.socket:
    """A socket that holds the port but takes no connections, so that nobody else gets it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    holder = socket.socket(family, socket.SOCK_STREAM)
    # Connections of an earlier router may still be in TIME_WAIT.
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        holder.bind((host, port))
    except OSError:
        holder.close()
        raise
    return holder


@dataclass
class Supervisor:
    """Keeps processes running. `folder` is where they count together."""

    command: Sequence[str]
    environment: dict[str, str]
    folder: str
    _running: set[asyncio.subprocess.Process] = field(default_factory=set)
    _restarts: deque[float] = field(default_factory=deque)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _status: int = 0

    async def run(self, count: int) -> int:
        """Until SIGTERM or SIGINT, or until processes end too often. The first bad exit status, or 0."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(self._keep())
        return self._status

    def _stop(self) -> None:
        """A second call reaches the processes as a second signal, which ends them at once."""
        self._stopping.set()
        for process in self._running:
            if process.returncode is None:
                process.terminate()

    async def _keep(self) -> None:
        while not self._stopping.is_set():
            # A session of its own: a terminal's interrupt would reach it beside our signal, and count as two.
            process = await asyncio.create_subprocess_exec(
                *self.command, env=self.environment, start_new_session=True
            )
            self._running.add(process)
            status = await process.wait()
            self._running.discard(process)
            mark_process_dead(process.pid, self.folder)
            if not self._stopping.is_set():
                await self._ended(process.pid, status)
            elif status:
                self._status = self._status or status

    async def _ended(self, pid: int, status: int) -> None:
        """A process ended by itself: it is started again, or all of them stop."""
        now = asyncio.get_running_loop().time()
        while self._restarts and self._restarts[0] < now - RESTART_WINDOW_SECONDS:
            self._restarts.popleft()
        if len(self._restarts) >= MAX_RESTARTS:
            _log.error("process %d ended with status %d; too many have: giving up", pid, status)
            self._status = status or 1
            self._stop()
            return
        self._restarts.append(now)
        _log.warning("process %d ended with status %d; starting another", pid, status)
        await asyncio.sleep(RESTART_PAUSE_SECONDS)
