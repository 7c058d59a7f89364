"""`python -m tandem_bench router`: what to measure, from the command line."""

import os
import signal
import time
from pathlib import Path
from types import FrameType

import click

from tandem_bench.native_build import BuildError
from tandem_bench.paths import CACHE, REPO
from tandem_bench.router.engine import EngineError
from tandem_bench.router.machine import MachineError
from tandem_bench.router.measure import MeasureError
from tandem_bench.router.page import part
from tandem_bench.router.peers import PEERS, TANDEM, Peer
from tandem_bench.router.phases import PHASES, Phase
from tandem_bench.router.result import conclude, write
from tandem_bench.router.samples import SampleFile
from tandem_bench.router.session import Plan, decision_times, run

QUICK_PHASES = frozenset({"256b", "streams-50", "idle", "leave-prefill"})


def _lines(pairs: list[tuple[str, str]]) -> str:
    return "\n".join(f"  {name:20} {what}" for name, what in pairs)


HELP = f"""Measure Tandem's router beside its peers, in one run.

Every router stands alone on a core, in front of the same mock engines; engines and load share another.
Peers are installed into environments of their own below {CACHE.relative_to(REPO)}. A sample is taken again if
other processes used the cores meanwhile.

\b
Examples:
  make bench-router                                     all of it, about 30 minutes
  make bench-router ARGS=--quick                        a look, about 2 minutes
  make bench-router ARGS="--only tandem --phase 256b"   one router, one phase
  make bench-router ARGS=--resume                       add to a run that was cut off or was not quiet

\b
Routers:
{_lines([(p.name, p.what + (f" (only when named: {p.why_not})" if p.asked_for else "")) for p in PEERS])}

\b
Phases:
{_lines([(phase.name, phase.what) for phase in PHASES])}
"""


@click.command(help=HELP)
@click.option("--only", multiple=True, metavar="ROUTER", help="Measure this router. Repeatable.")
@click.option("--phase", "named", multiple=True, metavar="PHASE", help="Measure this phase. Repeatable.")
@click.option("--quick", is_flag=True, help="One repetition of four phases, half as long: a look, no result.")
@click.option(
    "--repetitions", default=3, show_default=True, type=click.IntRange(min=1), help="Quiet samples wanted."
)
@click.option(
    "--minutes", default=60.0, show_default=True, help="Begin no further round after so many minutes."
)
@click.option("--resume", is_flag=True, help="Keep the samples of the last run and add what is missing.")
@click.option(
    "--out", default=CACHE / "router.json", show_default=False, type=click.Path(path_type=Path),
    help="Where the result goes. [default: .cache/bench/router.json]",
)  # fmt: skip
def command(
    only: tuple[str, ...],
    named: tuple[str, ...],
    quick: bool,
    repetitions: int,
    minutes: float,
    resume: bool,
    out: Path,
) -> None:
    peers, phases = _peers(only), _phases(named, quick=quick)
    plan = Plan(
        peers,
        phases,
        1 if quick else repetitions,
        0.5 if quick else 1.0,
        frozenset(os.sched_getaffinity(0)),
        time.monotonic() + 60 * minutes,
    )
    signal.signal(signal.SIGTERM, _stop)
    file = SampleFile(out.with_suffix(".samples.jsonl"), resume=resume)
    try:
        absent = run(plan, file, out.parent, click.echo)
        decisions = decision_times(plan.cores) if TANDEM in peers else {}
    except (BuildError, EngineError, MachineError, MeasureError) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        raise click.ClickException("stopped; go on with --resume") from None
    absent |= {p.name: p.why_not for p in PEERS if p.asked_for and p not in peers}
    result = conclude(file.samples, plan.repetitions, absent, decisions)
    write(result, out)
    click.echo(f"\n{part(result)}\n\nWritten to {out}. `make bench-publish` puts it into docs/results.md.")


def _peers(only: tuple[str, ...]) -> list[Peer]:
    known = {peer.name: peer for peer in PEERS}
    if unknown := [name for name in only if name not in known]:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(known)}", param_hint="--only")
    return [peer for peer in PEERS if (peer.name in only if only else not peer.asked_for)]


def _phases(named: tuple[str, ...], *, quick: bool) -> list[Phase]:
    known = [phase.name for phase in PHASES]
    if unknown := [name for name in named if name not in known]:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(known)}", param_hint="--phase")
    wanted = named or (QUICK_PHASES if quick else known)
    return [phase for phase in PHASES if phase.name in wanted]


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
