"""A result as tables: every figure of every peer, and how Tandem compares with each."""

from collections.abc import Sequence
from statistics import median

from tandem_bench.router.figures import FIGURES, SCALING, Figure, Values, pace
from tandem_bench.router.peers import DIRECT, PEERS, TANDEM
from tandem_bench.router.result import Result

Row = Sequence[str]
NONE = "-"
_NO_RATIO = frozenset({"handed-over", "left-decode", "left-prefill"})


def markdown(header: Row, rows: Sequence[Row]) -> str:
    """A Markdown table, aligned so that it reads as text too."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    rule = ["-" * width for width in widths]
    lines = (
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in (header, rule, *rows)
    )
    return "\n".join(lines)


def figures_table(result: Result) -> str:
    """Median (lowest to highest repetition) of each figure."""
    peers = measured(result)
    rows = [
        [_title(figure), *(_spread(found.get(name), figure.digits) for name in peers)]
        for figure in FIGURES
        if (found := result.figures.get(figure.name))
    ]
    return markdown(["", *peers], rows)


def goals_table(result: Result) -> str:
    """What Tandem has to reach, and whether it does: as the goals stand, and at the peers' pace here."""
    rows = [
        _goal_row(figure, result.figures.get(figure.name, {}))
        for figure in (*FIGURES, SCALING)
        if figure.must is not None
    ]
    return markdown(["", "tandem", "must", "aim", "reached", "must here", "aim here", "reached here"], rows)


def ratio_table(result: Result) -> str:
    """How many times better Tandem is than each peer: of the medians, and at the least and the most."""
    peers = [name for name in measured(result) if name not in (TANDEM.name, DIRECT.name)]
    rows = []
    for figure in FIGURES:
        found = result.figures.get(figure.name, {})
        ours = found.get(TANDEM.name)
        if ours and figure.name not in _NO_RATIO:
            rows.append([_title(figure), *(ratio(figure, ours, found.get(name)) for name in peers)])
    return markdown(["times better than", *peers], rows)


def measured(result: Result) -> list[str]:
    """Peers with any figure, in their usual order, Tandem last."""
    seen = {peer for found in result.figures.values() for peer in found}
    names = [peer.name for peer in PEERS if peer.name in seen and peer.name != TANDEM.name]
    return [*names, TANDEM.name]


def ratio(figure: Figure, ours: Sequence[float], theirs: Sequence[float] | None) -> str:
    """`2.1 (1.9 to 2.3)`: above 1 is better than the peer, whichever way the figure runs."""
    if not theirs or min(*ours, *theirs) <= 0:
        return NONE
    one, other = (ours, theirs) if figure.more_is_better else (theirs, ours)
    middle, least, most = (
        median(one) / median(other), min(one) / max(other), max(one) / min(other)
    )  # fmt: skip
    return f"{middle:.2f} ({least:.2f} to {most:.2f})"


def verdict(figure: Figure, ours: Sequence[float] | None, pace: float = 1.0) -> str:
    """What of `must` and `aim`, times `pace`, the median reaches."""
    if figure.must is None:
        return NONE
    if not ours:
        return "not measured"

    def reaches(bound: float) -> bool:
        value, wanted = median(ours), bound * pace
        return value >= wanted if figure.more_is_better else value <= wanted

    if figure.aim is not None and reaches(figure.aim):
        return "aim"
    return "must" if reaches(figure.must) else "no"


def _goal_row(figure: Figure, found: Values) -> list[str]:
    ours, scale = found.get(TANDEM.name), pace(figure, found)
    there = [*_bounds(figure, 1.0), verdict(figure, ours)]
    here = [NONE] * 3 if scale is None else [*_bounds(figure, scale), verdict(figure, ours, scale)]
    return [_title(figure), _spread(ours, figure.digits), *there, *here]


def _bounds(figure: Figure, scale: float) -> list[str]:
    return [
        NONE if bound is None else f"{bound * scale:,.{_digits(bound)}f}"
        for bound in (figure.must, figure.aim)
    ]


def _digits(bound: float) -> int:
    return 0 if bound >= 50 else 1


def _title(figure: Figure) -> str:
    return f"{figure.title}, {figure.unit}" if figure.unit else figure.title


def _spread(found: Sequence[float] | None, digits: int) -> str:
    if not found:
        return NONE
    middle, least, most = (f"{value:,.{digits}f}" for value in (median(found), min(found), max(found)))
    return middle if least == most else f"{middle} ({least} to {most})"
