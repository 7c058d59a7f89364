"""One phase of one router: the load, and what it did to the router, the engines and the machine."""

import json
import resource
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tandem_bench.native_build import build
from tandem_bench.paths import STANDINS
from tandem_bench.router import engine, machine
from tandem_bench.router.fleet import MODEL
from tandem_bench.router.machine import Cores
from tandem_bench.router.peers import HOST, Peer
from tandem_bench.router.phases import Phase
from tandem_bench.router.processes import running

START_SECONDS = 60
LEAVE_SECONDS = 2
PHASE_SECONDS = 120

Sample = dict[str, Any]
"""What the load generator printed, and what was seen beside it."""


class MeasureError(Exception):
    """A router did not start or the load generator failed; the message says which, and where to look."""


@dataclass(frozen=True, slots=True)
class Router:
    """One that answers. `pids`: its processes, whose CPU and memory count."""

    peer: Peer
    cores: Cores
    pids: tuple[int, ...]

    @property
    def busy(self) -> frozenset[int]:
        """The cores on which nobody else should be."""
        return self.cores.all if self.pids else self.cores.engine | self.cores.load


@contextmanager
def started(peer: Peer, programs: Path, work: Path, cores: Cores) -> Iterator[Router]:
    """Runs the peer on its cores until the block ends. Raises MeasureError if it does not answer in time."""
    if not peer.command:
        yield Router(peer, cores, ())
        return
    places = {
        "python": str(programs / "python"),
        "bin": str(programs),
        "work": str(work),
        "standins": str(STANDINS),
    }
    command = [word.format(**places) for word in peer.command]
    log = work / "logs" / f"{peer.name}.log"
    engine.configure({})
    with running(command, cores.router, log, peer.environment) as process:
        _await_answer(peer, process, log)
        yield Router(peer, cores, tuple(machine.family(process.pid)))


def _await_answer(peer: Peer, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up:
        if process.poll() is not None:
            raise MeasureError(f"{peer.name} ended with code {process.returncode}: see {log}")
        if _answers(peer.port):
            return
        time.sleep(0.25)
    raise MeasureError(f"{peer.name} gave no answer within {START_SECONDS} s: see {log}")


def _answers(port: int) -> bool:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
    request = urllib.request.Request(
        f"http://{HOST}:{port}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def measure(router: Router, phase: Phase, engines: int, *, scale: float = 1.0) -> Sample:
    """Puts the router through the phase. `engines`: the pid of the mock. Raises MeasureError."""
    engine.configure(phase.engine)
    counted = engine.counters()
    everything = (*router.pids, engines)
    watch = _Watch(router.busy, lambda: sum(map(machine.cpu_seconds, everything)))
    before, begin = [machine.cpu_seconds(pid) for pid in everything], time.monotonic()
    sample = _load(router, phase, scale)
    seconds = time.monotonic() - begin
    used = [machine.cpu_seconds(pid) - first for pid, first in zip(everything, before, strict=True)]
    sample["foreign_cores"] = round(watch.foreign_seconds() / seconds, 3)
    sample["engine_cores"] = round(used.pop() / seconds, 3)
    sample["router_cpu_seconds"] = [round(each, 2) for each in used]
    if phase.leavers:
        time.sleep(LEAVE_SECONDS)
    now = engine.counters()
    sample["engines"] = {
        role: {name: value - counted[role][name] for name, value in values.items()}
        for role, values in now.items()
    }
    return sample


class _Watch:
    """Tells how much CPU others used on our cores since it was made."""

    def __init__(self, cores: frozenset[int], own: Callable[[], float]) -> None:
        self._cores = cores
        self._own = own
        self._begin = self._foreign()

    def foreign_seconds(self) -> float:
        return self._foreign() - self._begin

    def _foreign(self) -> float:
        return machine.busy_seconds(self._cores) - self._own() - _ours()


def _ours() -> float:
    """This process and the children that have ended: the load generators."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _load(router: Router, phase: Phase, scale: float) -> Sample:
    options: Mapping[str, Any] = {"port": router.peer.port, "model": MODEL, **phase.load}
    options = {**options, "seconds": options["seconds"] * scale}
    if router.pids:
        options["pids"] = ",".join(map(str, router.pids))
    command = [str(build("load_generator")), *(f"{name}={value}" for name, value in options.items())]
    return run_load(command, router.cores.load)


def run_load(command: list[str], cores: frozenset[int]) -> Sample:
    """Runs the load generator on these cores. Raises MeasureError."""
    pinned = ["taskset", "-c", ",".join(map(str, sorted(cores))), *command]
    try:
        done = subprocess.run(pinned, capture_output=True, text=True, timeout=PHASE_SECONDS, check=False)
        return dict(json.loads(done.stdout))
    except subprocess.TimeoutExpired:
        raise MeasureError(f"the load did not end within {PHASE_SECONDS} s") from None
    except ValueError:
        raise MeasureError(f"the load generator failed: {done.stderr.strip() or done.returncode}") from None
