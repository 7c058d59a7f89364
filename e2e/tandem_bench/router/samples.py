"""The samples of a run in a file, one a line, and which of them count."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

QUIET_CORES = 0.12
"""As much CPU as others may use beside a sample; above it the sample is taken again."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One phase of one router: what was seen, and how quiet the machine was."""

    peer: str
    phase: str
    seen: dict[str, Any]

    @property
    def foreign_cores(self) -> float:
        return float(self.seen["foreign_cores"])

    @property
    def quiet(self) -> bool:
        return self.foreign_cores <= QUIET_CORES


class SampleFile:
    """Appended to as the run goes on, so that a run that was cut off can be resumed."""

    def __init__(self, path: Path, *, resume: bool) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if not resume:
            path.unlink(missing_ok=True)
        self._samples = list(_read(path))

    @property
    def samples(self) -> tuple[Sample, ...]:
        return tuple(self._samples)

    def add(self, sample: Sample) -> None:
        self._samples.append(sample)
        with self._path.open("a") as file:
            file.write(json.dumps(asdict(sample)) + "\n")

    def quiet(self, peer: str, phase: str) -> int:
        """How many good samples there are of it."""
        return sum(s.quiet for s in self._samples if (s.peer, s.phase) == (peer, phase))


def _read(path: Path) -> Iterator[Sample]:
    if path.exists():
        for line in path.read_text().splitlines():
            yield Sample(**json.loads(line))


def quietest(samples: Iterable[Sample], count: int) -> dict[tuple[str, str], list[Sample]]:
    """(peer, phase) -> the `count` samples with the least foreign CPU, or all if there are fewer."""
    groups: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[sample.peer, sample.phase].append(sample)
    return {key: sorted(group, key=lambda s: abs(s.foreign_cores))[:count] for key, group in groups.items()}
