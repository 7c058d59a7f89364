"""What the machine does while a router is measured: cores, CPU time by process, and who else is at work."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_IDLE_FIELDS = (3, 4)
_GUEST = 8
"""/proc/stat: user nice system idle iowait irq softirq steal, then guest time that user holds already."""


class MachineError(Exception):
    """This machine cannot run the benchmark; the message says why."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core runs what. With two, the engines and the load generator share one; routers never share."""

    router: frozenset[int]
    engine: frozenset[int]
    load: frozenset[int]

    @property
    def all(self) -> frozenset[int]:
        return self.router | self.engine | self.load


def share_out(available: frozenset[int], processes: int = 1) -> Cores:
    """Cores for a router of so many processes. Raises MachineError when there are fewer than two.

    With too few for several processes, engines and load run on the routers' last two cores.
    """
    cores = sorted(available)
    if len(cores) < 2:
        raise MachineError("two cores are needed: one for the router, one for engines and load")
    router = cores[:processes]
    rest = cores[processes:] or cores[-2:]
    return Cores(frozenset(router), frozenset({rest[0]}), frozenset({rest[1 % len(rest)]}))


def busy_seconds(cores: frozenset[int]) -> float:
    """CPU time that these cores have spent on anything, time stolen by the host included."""
    lines = (PROC / "stat").read_text().splitlines()
    wanted = {f"cpu{core}" for core in cores}
    return sum(_busy(line) for line in lines if line.split(" ", 1)[0] in wanted)


def _busy(line: str) -> float:
    fields = [int(word) for word in line.split()[1:]]
    return (sum(fields[:_GUEST]) - sum(fields[i] for i in _IDLE_FIELDS)) / _TICKS


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, all threads; 0 once it is gone."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def family(pid: int) -> list[int]:
    """The process and all its descendants."""
    children: dict[int, list[int]] = {}
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(folder.name))
    found = [pid]
    for member in found:
        found.extend(children.get(member, []))
    return found


def describe() -> dict[str, str | int]:
    """What a reader of the figures should know of the machine."""
    models = [line.partition(":")[2].strip() for line in _lines("cpuinfo") if line.startswith("model name")]
    return {
        "cpu": models[0] if models else "unknown",
        "cores": len(os.sched_getaffinity(0)),
        "kernel": os.uname().release,
        "python": platform.python_version(),
    }


def _lines(name: str) -> list[str]:
    return (PROC / name).read_text().splitlines()
