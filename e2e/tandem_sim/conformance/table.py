"""docs/conformance.md: one table for each path, a row for each feature, a column for each engine. Pure."""

from collections.abc import Mapping, Sequence

from tandem_sim.conformance.features import FEATURES

Verdicts = Mapping[str, Mapping[str, tuple[str, str]]]
"""Engine -> feature -> what it does over a hand-over, and on one worker."""

_INTRO = """# Conformance

What of the API works with which engine. Every cell is what a test saw, a request through the router whose
answer is compared field by field with one worker's (`tests/integration/test_conformance.py`). `native` is the
native worker itself. The others are the strict simulators of `tandem_sim`: they keep the engines' hand-over
protocols and request schemas, and know nothing of samplers. `make e2e-vllm` compares texts with a real vLLM.

- **works**: the answer is the one that one worker gives; in the first table, over a hand-over.
- **on one worker**: the engine cannot do it over a hand-over, so one worker gets the whole request. The
  answer's `x-tandem-path` says `local`, and `tandem_router_path_total` counts it with the reason.
- **refused**: the engine answers with a 4xx of its own, which the client gets as it is.

Written by `make conformance`; `make test` fails where it is not what the tests see.
"""
_HEADINGS = ("## Prefill and decode on separate workers", "## One worker for both phases")


def render(verdicts: Verdicts) -> str:
    engines = list(verdicts)
    parts = [_INTRO]
    for path, heading in enumerate(_HEADINGS):
        rows = [[f.name, *(verdicts[engine][f.name][path] for engine in engines)] for f in FEATURES]
        parts.append(f"{heading}\n\n{_table(['feature', *engines], rows)}")
    return "\n".join(parts)


def read(text: str) -> Verdicts:
    """What `render` wrote. Raises ValueError or IndexError for anything else."""
    tables = [_cells(text.partition(heading)[2]) for heading in _HEADINGS]
    engines = tables[0][0][1:]
    handed, alone = ({row[0]: row[1:] for row in table[2:]} for table in tables)
    return {
        engine: {name: (handed[name][column], alone[name][column]) for name in handed}
        for column, engine in enumerate(engines)
    }


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cells(text: str) -> list[list[str]]:
    """The first table of a text."""
    lines = text.strip().splitlines()
    end = next((index for index, line in enumerate(lines) if not line.startswith("|")), len(lines))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:end]]
