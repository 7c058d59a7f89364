"""Commands with a time limit, and waiting for a condition."""

import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


class CommandError(RuntimeError):
    """A command that failed or ran out of time; the message holds the command and the end of its output."""


def run(
    *command: str | Path,
    timeout: float = 60.0,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    log: Path | None = None,
) -> str:
    """Run a command to its end and return its stdout; with `log`, both streams go to that file instead."""
    arguments = [str(part) for part in command]
    with log.open("ab") if log else nullcontext() as file:
        streams = {"stdout": file, "stderr": subprocess.STDOUT} if file else {"capture_output": True}
        source = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        try:
            done = subprocess.run(
                arguments, text=True, timeout=timeout, cwd=cwd, env=env, check=False, **streams, **source
            )
        except subprocess.TimeoutExpired as error:
            raise CommandError(f"`{' '.join(arguments)}` did not end within {timeout:.0f} s") from error
    if done.returncode != 0:
        output = tail(log) if log else f"{done.stdout}{done.stderr}"
        raise CommandError(f"`{' '.join(arguments)}` exited {done.returncode}\n{output.strip()[-4000:]}")
    return done.stdout or ""


def until(what: str, check: Callable[[], T | None], timeout: float, poll: float = 1.0) -> T:
    """Poll `check` until it returns something true, and return that. A failing command counts as not yet."""
    deadline = time.monotonic() + timeout
    last = "it never came true"
    while True:
        try:
            if value := check():
                return value
        except CommandError as error:
            last = str(error)
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:.0f} s for {what}: {last}")
        time.sleep(poll)


def tail(path: Path, lines: int = 25) -> str:
    """The last lines of a log file; empty when there is none."""
    if not path.exists():
        return ""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
