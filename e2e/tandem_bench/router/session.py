"""A whole run: routers in turn, again and again, until each phase of each has its quiet samples."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tandem_bench.native_build import build
from tandem_bench.router import fleet
from tandem_bench.router.engine import mock_engines
from tandem_bench.router.install import AbsentError, programs
from tandem_bench.router.machine import share_out
from tandem_bench.router.measure import MeasureError, Router, measure, started
from tandem_bench.router.peers import Peer
from tandem_bench.router.phases import Phase
from tandem_bench.router.result import Decisions
from tandem_bench.router.samples import Sample, SampleFile

ROUNDS = 4
"""Times that a sample is taken before one that was not quiet has to do, for each repetition wanted."""

DECISION_SECONDS = 300

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure. `scale`: of the seconds measured. `cores`: to be used. `until`: monotonic seconds."""

    peers: Sequence[Peer]
    phases: Sequence[Phase]
    repetitions: int
    scale: float
    cores: frozenset[int]
    until: float


def run(plan: Plan, file: SampleFile, work: Path, say: Say) -> dict[str, str]:
    """Adds samples to the file until there are enough. What could not be measured: peer -> why."""
    fleet.write(work)
    build("load_generator")
    absent: dict[str, str] = {}
    places = dict(_installed(plan.peers, absent, say))
    for turn in range(1, ROUNDS * plan.repetitions + 1):
        left = [(peer, _missing(plan, peer, file, turn)) for peer in plan.peers if peer.name not in absent]
        if not any(phases for _, phases in left) or time.monotonic() > plan.until:
            break
        say(f"round {turn}")
        for peer, phases in left:
            try:
                _measure_all(plan, peer, phases, places[peer.name], file, work, say)
            except MeasureError as error:
                absent[peer.name] = str(error)
                say(f"  {peer.name}: skipped: {error}")
    return absent


def _installed(peers: Sequence[Peer], absent: dict[str, str], say: Say) -> Iterator[tuple[str, Path]]:
    for peer in peers:
        try:
            if not peer.command and peer.why_not:
                raise AbsentError(peer.why_not)
            yield peer.name, programs(peer)
        except AbsentError as reason:
            absent[peer.name] = str(reason)
            say(f"  {peer.name}: skipped: {reason}")


def _missing(plan: Plan, peer: Peer, file: SampleFile, turn: int) -> list[Phase]:
    """The phases of which more quiet samples are wanted; at first one a round, so that routers interleave."""
    wanted = min(turn, plan.repetitions)
    return [
        phase
        for phase in plan.phases
        if phase.name not in peer.skip
        and (not peer.only or phase.name in peer.only)
        and (peer.two_legs or not phase.two_legs_only)
        and (peer.command or not phase.fresh)
        and file.quiet(peer.name, phase.name) < wanted
    ]


def _measure_all(
    plan: Plan, peer: Peer, phases: Sequence[Phase], place: Path, file: SampleFile, work: Path, say: Say
) -> None:
    """A router for each phase that wants a fresh one, and one for all others."""
    cores = share_out(plan.cores, peer.processes)
    groups = [[phase] for phase in phases if phase.fresh]
    groups.append([phase for phase in phases if not phase.fresh])
    for group in filter(None, groups):
        with (
            mock_engines(cores.engine, work / "logs" / "engines.log") as engines,
            started(peer, place, work, cores) as router,
        ):
            for phase in group:
                sample = _sample(router, phase, engines.pid, plan.scale)
                file.add(sample)
                say(f"  {peer.name:20} {phase.name:14} {_summary(sample)}")


def _sample(router: Router, phase: Phase, engines: int, scale: float) -> Sample:
    return Sample(router.peer.name, phase.name, measure(router, phase, engines, scale=scale))


def _summary(sample: Sample) -> str:
    seen = sample.seen
    parts = [f"{seen['requests_per_s']:>9,.0f}/s"] if seen["requests"] else []
    if seen["events"]:
        parts.append(f"{1000 * seen['cpu'] / seen['events']:5.1f} ms CPU per 1,000 chunks")
    elif seen["requests"]:
        parts.append(f"{1000 * seen['cpu'] / seen['requests']:7.1f} us CPU per request")
    elif seen["rss_before"]:
        parts.append(f"{seen['rss_before'] / 1024:.0f} to {seen['rss_after'] / 1024:.0f} MB")
    trouble = {name: seen[name] for name in ("errors", "refused", "short_streams") if seen[name]}
    parts += [f"{name} {count}" for name, count in trouble.items()]
    if not sample.quiet:
        parts.append(f"NOT QUIET: others used {sample.foreign_cores:.2f} cores")
    return ", ".join(parts)


def decision_times(cores: frozenset[int]) -> Decisions:
    """Policy -> workers -> median us of one decision, on the router's core. Raises MeasureError."""
    command = ["taskset", "-c", str(min(cores)), sys.executable, "-m", "tandem_bench.router.decision"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DECISION_SECONDS, check=False)
    if done.returncode:
        raise MeasureError(f"the decisions could not be timed: {done.stderr.strip()}")
    return dict(json.loads(done.stdout))
