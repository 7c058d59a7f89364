"""Processes in groups of their own, each with a log, none left behind."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

STOP_SECONDS = 20.0
TAIL = 3000

# Kills the group $1 when its standard input ends, which it does with whoever holds the other end.
_WATCHDOG = ("sh", "-c", 'read -r _; kill -s KILL -- "-$1"', "watchdog")


class ProcessError(Exception):
    """A process ended, or did not get ready in time; the message ends with its log."""


class Process:
    """A command and whatever it starts, which do not outlive this process, however it ends."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], folder: Path, name: str) -> None:
        self.name = name
        self._log = folder / f"{name}.log"
        with self._log.open("ab") as log:
            self._leader = subprocess.Popen(
                command,
                env=env,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._watchdog = subprocess.Popen(
            [*_WATCHDOG, str(self._leader.pid)],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def wait_ready(self, url: str, deadline: float) -> None:
        """Return once `url` answers 200; ProcessError if the process ends or `deadline` passes first."""
        while not _answers(url):
            if self._leader.poll() is not None:
                raise ProcessError(f"{self.name} ended with {self._leader.returncode}:\n{self._tail()}")
            if time.monotonic() > deadline:
                raise ProcessError(f"{self.name} is not ready:\n{self._tail()}")
            time.sleep(0.2)

    def pause(self) -> None:
        """The first process stands still until `resume`; what is sent to it waits in its sockets."""
        _signal(self._leader.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """End a pause."""
        _signal(self._leader.pid, signal.SIGCONT)

    def stop(self) -> None:
        """End it as a pod is ended: SIGTERM to the first process, SIGKILL to all that is left."""
        if self._leader.poll() is None:
            self._leader.terminate()
        self._wait_empty(time.monotonic() + STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End every process of the group at once.

        But Python's resource trackers: they unlink the shared memory of the dead and then end by themselves.
        """
        for pid in self._members():
            if b"resource_tracker" not in _command_line(pid):
                _signal(pid, signal.SIGKILL)
        empty = self._wait_empty(time.monotonic() + STOP_SECONDS)
        self._watchdog.communicate(timeout=STOP_SECONDS)
        if not empty:
            raise ProcessError(f"{self.name} had to be killed again")

    def _wait_empty(self, deadline: float) -> bool:
        while self._leader.poll() is None or self._members():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True

    def _members(self) -> list[int]:
        pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
        return [pid for pid in pids if _group(pid) == self._leader.pid and _command_line(pid)]

    def _tail(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")[-TAIL:]


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def _command_line(pid: int) -> bytes:
    """Empty for a process that has ended, also for a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
