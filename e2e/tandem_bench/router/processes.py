"""Processes on cores of their own, ended with everything that they started."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

STOP_SECONDS = 6


def start(
    command: Sequence[str], cores: frozenset[int], log: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Starts a process in a group of its own; it inherits the cores that we are on for that moment."""
    log.parent.mkdir(parents=True, exist_ok=True)
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        with log.open("ab") as output:
            return subprocess.Popen(
                list(command),
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | dict(environment or {}),
                process_group=0,
            )
    finally:
        os.sched_setaffinity(0, before)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends its whole group, by force if it does not go."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(STOP_SECONDS)
            return
        except subprocess.TimeoutExpired:
            continue


@contextmanager
def running(
    command: Sequence[str], cores: frozenset[int], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    process = start(command, cores, log, environment)
    try:
        yield process
    finally:
        stop(process)
