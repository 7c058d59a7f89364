"""One operating system process: started, told to end, killed, always waited for."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_GUARD = Path(__file__).with_name("guarded_exec.py")
_TAIL_BYTES = 4096


class Child:
    """A running process that leads its own process group; its output goes to a file."""

    def __init__(self, process: Process, log: Path) -> None:
        self._process = process
        self._log = log

    @classmethod
    async def start(cls, argv: Sequence[str], env: Mapping[str, str], log: Path) -> "Child":
        """Adds `env` to this process's environment. The child gets no signal of the terminal."""
        command = (sys.executable, "-I", "-S", str(_GUARD), str(os.getpid()), *argv)
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                env={**os.environ, **env},
                stdin=DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return cls(process, log)

    async def wait(self) -> int:
        """The exit status; negative for a signal."""
        return await self._process.wait()

    async def end(self, grace: float) -> None:
        """SIGTERM, then SIGKILL for the whole group after `grace` seconds. Returns when it is gone."""
        try:
            self._signal(signal.SIGTERM)
            async with asyncio.timeout(grace):
                await self._process.wait()
        except TimeoutError:
            pass
        finally:
            self._signal(signal.SIGKILL)
            await self._process.wait()

    def last_words(self) -> str:
        """The last line that it wrote, without click's `Error: `; empty if there is none."""
        with self._log.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - _TAIL_BYTES))
            lines = log.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return last.removeprefix("Error: ")

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
