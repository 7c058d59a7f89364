"""`python -m tandem_sim.serving TRACE...`: replays traces on a simulated service, and prints a table."""

from pathlib import Path

import click

from tandem_router.types import Objective
from tandem_sim.serving.experiments import fleet
from tandem_sim.serving.fleet import run
from tandem_sim.serving.outcome import Report
from tandem_sim.serving.traces import read

_HEAD = (
    "load",
    "calls",
    "refused",
    "attainment",
    "goodput/s",
    "TTFT p50/p99 s",
    "TPOT p50 ms",
    "error TTFT",
    "error TPOT",
    "local",
)


@click.command()
@click.argument("traces", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--rate", default=1.0, show_default=True, help="Replay so many times as fast.")
@click.option("--seconds", default=600.0, show_default=True, help="Play this much of it, as replayed.")
@click.option("--prefills", default=4, show_default=True, help="Prefill workers.")
@click.option("--decodes", default=2, show_default=True, help="Decode workers.")
@click.option("--mixed", default=0, show_default=True, help="Mixed workers.")
@click.option("--ttft", default=0.5, show_default=True, help="Objective in seconds.")
@click.option("--tpot", default=0.025, show_default=True, help="Objective in seconds.")
def main(
    traces: tuple[Path, ...],
    rate: float,
    seconds: float,
    prefills: int,
    decodes: int,
    mixed: int,
    ttft: float,
    tpot: float,
) -> None:
    """Azure csv, Mooncake jsonl or agentic jsonl, plain or gzipped, as a table of results.

    The workers are 30 % slower than the router's profile says, with 5 % of noise and 15 % of drift.
    """
    service = fleet(prefills, decodes, mixed=mixed, objective=Objective(ttft, tpot))
    click.echo("| " + " | ".join(_HEAD) + " |\n" + "|---" * len(_HEAD) + "|")
    for trace in traces:
        report = run(service, read(trace).faster(rate).until(seconds))
        click.echo("| " + " | ".join((f"{trace.name} x{rate:g}", *_cells(report))) + " |")


def _cells(report: Report) -> tuple[str, ...]:
    local = sum(count for path, count in report.paths().items() if path.startswith("local"))
    ttft = [report.quantile(q, lambda outcome: outcome.ttft) for q in (0.5, 0.99)]
    return (
        str(len(report.outcomes)),
        str(sum(report.refused().values())),
        f"{report.attainment():.1%}",
        f"{report.goodput():.1f}",
        f"{ttft[0]:.3f}/{ttft[1]:.2f}",
        f"{report.quantile(0.5, lambda outcome: outcome.tpot) * 1000:.1f}",
        f"{report.ttft_error():.1%}",
        f"{report.tpot_error():.1%}",
        str(local),
    )


if __name__ == "__main__":
    main()
