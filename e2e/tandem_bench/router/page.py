"""The router's part of docs/results.md, written from a result between two marks."""

import shutil
from pathlib import Path

from tandem_bench.paths import REPO
from tandem_bench.router.peers import PEERS
from tandem_bench.router.result import Result, read
from tandem_bench.router.tables import figures_table, goals_table, markdown, measured, ratio_table

PAGE = REPO / "docs" / "results.md"
RECORD = REPO / "docs" / "results" / "router.json"
BEGIN, END = "<!-- router: begin -->", "<!-- router: end -->"


class PageError(Exception):
    """The page lacks the marks between which the router's part belongs."""


def publish(result: Path, page: Path = PAGE, record: Path = RECORD) -> None:
    """Keeps the result and writes the page's part anew. Raises PageError, OSError, ValueError."""
    text = replaced(page.read_text(), part(read(result)))
    if result.resolve() != record.resolve():
        record.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(result, record)
    page.write_text(text)


def replaced(page: str, new: str) -> str:
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise PageError(f"the page has no {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{new}\n{END}{after}"


def part(result: Result) -> str:
    about, noise = result.machine, result.noise
    what = {peer.name: peer.what for peer in PEERS}
    absent = [f"- `{name}`: {why}" for name, why in result.absent.items()]
    return "\n".join(
        [
            f"Measured {result.when} at `{result.commit}` on {about['cores']} cores of {about['cpu']}, Linux"
            f" {about['kernel']}, Python {about['python']}: median of {result.repetitions} repetitions"
            " (lowest to highest), routers in turn within each.",
            f"Others used {noise['foreign_cores_median']} cores meanwhile (median; at most"
            f" {noise['foreign_cores_worst']}); {noise['not_quiet']} of {noise['samples']} samples were taken"
            f" while it was not quiet; {noise['errors']} errors, {noise['refused']} refusals,"
            f" {noise['short_streams']} short streams.",
            "",
            figures_table(result),
            "",
            "What Tandem has to reach (`here`: at the pace of the two Rust routers in this run):",
            "",
            goals_table(result),
            "",
            "Tandem's median over the peer's, so that more is better (worst to best pair of repetitions):",
            "",
            ratio_table(result),
            "",
            *_decisions(result),
            "The routers:",
            "",
            *(f"- `{name}`: {what[name]}" for name in measured(result)),
            *(["", "Not measured:", "", *absent] if absent else []),
        ]
    )


def _decisions(result: Result) -> list[str]:
    if not result.decision_us:
        return []
    sizes = list(next(iter(result.decision_us.values())))
    rows = [[name, *(f"{us[size]:,.0f}" for size in sizes)] for name, us in result.decision_us.items()]
    title = "One decision, us, median (must: under 100 at 100 workers, under 1,000 at 1,000):"
    return [title, "", markdown(["", *(f"{size} workers" for size in sizes)], rows), ""]
