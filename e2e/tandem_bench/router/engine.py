"""The mock engines: one process that plays all of them, and what it says of itself."""

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tandem_bench.native_build import build
from tandem_bench.router.peers import DECODE, HOST, PREFILL, REGULAR
from tandem_bench.router.processes import running

START_SECONDS = 5
NOTHING = {"itl_us": 0, "ttft_us": 0, "prefill_us": 0, "steps": 0}
_ROLES = {"regular": REGULAR, "prefill": PREFILL, "decode": DECODE}

Counters = dict[str, dict[str, int]]
"""Role -> counter -> value."""


class EngineError(Exception):
    """The mock engines did not start; the message says what to look at."""


@contextmanager
def mock_engines(cores: frozenset[int], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Runs them on these cores. Raises EngineError if they are not up in time."""
    ports = [f"{port}:{role}" for role, ports in _ROLES.items() for port in ports]
    with running([str(build("mock_engine")), *ports], cores, log) as process:
        _await(process, log)
        yield process


def _await(process: subprocess.Popen[bytes], log: Path) -> None:
    give_up = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < give_up:
        try:
            counters()
            return
        except OSError:
            time.sleep(0.05)
    raise EngineError(f"the mock engines are not up (is a port of {REGULAR[0]}.. in use?): see {log}")


def configure(settings: Mapping[str, int]) -> None:
    """How all of them behave from the next request on."""
    _get(f"/mock/config?{urlencode(NOTHING | dict(settings))}")


def counters() -> Counters:
    found: Counters = _get("/mock/stats")
    return found


def _get(path: str) -> Any:
    with urllib.request.urlopen(f"http://{HOST}:{REGULAR[0]}{path}", timeout=5) as response:
        return json.load(response)
