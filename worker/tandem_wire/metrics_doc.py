"""`python -m tandem_wire.metrics_doc [FILE]`: the metrics as a page, to a file or to standard output."""

import sys
from itertools import groupby
from pathlib import Path

from tandem_wire.metrics import ALL, Metric

_PREFIX = "tandem_"
_HEAD = f"""# Metrics

Made by `make generate` from `worker/tandem_wire/metrics.py`; do not edit. Every series starts with
`{_PREFIX}`, in base units: seconds, bytes, tokens, ratios from 0 to 1. A histogram is exposed as `_bucket`,
`_sum` and `_count`.
"""
_WHERE = {
    "router": "The router's `/metrics`, on its HTTP port.",
    "worker": "A worker's `/metrics`, on its HTTP port.",
    "operator": "The operator's `/metrics`, on port 9090.",
    "pool": "The operator's `/metrics`, on port 9090.",
    "planner": "The operator's `/metrics`, on port 9090.",
}


def page() -> str:
    """The page as Markdown: a table for each component."""
    sections = [_section(name, list(metrics)) for name, metrics in groupby(ALL, _component)]
    return "\n".join([_HEAD, *sections])


def _section(component: str, metrics: list[Metric]) -> str:
    rows = [
        f"| `{metric.name}` | {metric.kind} | {_names(metric.labels)} | {metric.help}{_buckets(metric)} |"
        for metric in metrics
    ]
    head = "| series | kind | labels | meaning |\n| --- | --- | --- | --- |"
    return "\n".join([f"## {component.capitalize()}", "", _WHERE[component], "", head, *rows, ""])


def _component(metric: Metric) -> str:
    return metric.name.removeprefix(_PREFIX).partition("_")[0]


def _names(labels: tuple[str, ...]) -> str:
    return ", ".join(f"`{label}`" for label in labels)


def _buckets(metric: Metric) -> str:
    if not metric.buckets:
        return ""
    return f" Buckets: {', '.join(f'{bound:g}' for bound in metric.buckets)}."


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(page(), encoding="utf-8")
    else:
        sys.stdout.write(page())
