"""A run's outcome as it is written to JSON: every figure of every peer, repetition by repetition."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from tandem_bench.paths import REPO
from tandem_bench.router import machine
from tandem_bench.router.figures import FIGURES, SCALING, Values, scaling, values
from tandem_bench.router.peers import TANDEM
from tandem_bench.router.samples import Sample, quietest

Decisions = Mapping[str, Mapping[str, float]]
"""Policy -> workers -> us."""


@dataclass(frozen=True, slots=True)
class Result:
    """`figures`: figure -> peer -> values. `absent`: peer -> why not measured. `noise`: of what counts."""

    machine: Mapping[str, str | int]
    when: str
    commit: str
    repetitions: int
    figures: dict[str, Values]
    absent: Mapping[str, str]
    noise: Mapping[str, float]
    decision_us: Decisions = field(default_factory=dict)


def conclude(
    samples: Sequence[Sample], repetitions: int, absent: Mapping[str, str], decision_us: Decisions
) -> Result:
    """The figures of the quietest samples of each peer and phase."""
    chosen = quietest(samples, repetitions)
    kept = [sample for group in chosen.values() for sample in group]
    about = machine.describe()
    figures = {figure.name: values(figure, chosen) for figure in FIGURES}
    figures[SCALING.name] = {TANDEM.name: scaling(chosen, int(about["cores"]))}
    return Result(
        machine=about,
        when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        commit=_commit(),
        repetitions=repetitions,
        figures=figures,
        absent=absent,
        noise=_noise(kept),
        decision_us=decision_us,
    )


def _noise(kept: Sequence[Sample]) -> dict[str, float]:
    foreign = [abs(sample.foreign_cores) for sample in kept] or [0.0]
    troubles = ("errors", "refused", "short_streams")
    return {
        "samples": len(kept),
        "foreign_cores_median": round(median(foreign), 3),
        "foreign_cores_worst": round(max(foreign), 3),
        "not_quiet": sum(not sample.quiet for sample in kept),
        **{name: sum(sample.seen[name] for sample in kept) for name in troubles},
    }


def _commit() -> str:
    command = ["git", "-C", str(REPO), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    return done.stdout.strip() or "unknown"


def write(result: Result, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_rounded(asdict(result)), indent=1) + "\n")


def read(path: Path) -> Result:
    """Raises OSError, or ValueError if it is no result."""
    try:
        return Result(**json.loads(path.read_text()))
    except TypeError as error:
        raise ValueError(f"{path} is no result of this benchmark: {error}") from error


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, 4) if isinstance(value, float) else value
