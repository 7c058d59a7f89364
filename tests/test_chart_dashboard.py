"""The dashboard asks only for series that exist, by labels that they have, and its panels do not overlap."""

import itertools
import json
import re

import pytest

from tandem_e2e.dashboard import DASHBOARD, Expression, expressions, panels
from tandem_wire import metrics

SERIES = {metric.name: metric for metric in metrics.ALL}
SUFFIXES = re.compile(r"_(bucket|sum|count)$")
SELECTOR = re.compile(r"(tandem_\w+)(?:\{([^}]*)\})?")
GROUPING = re.compile(r"by \(([^)]*)\)")
TARGET_LABELS = {"namespace", "le"}
GRAFANA = {"__rate_interval"}


@pytest.mark.parametrize("expression", expressions(), ids=lambda e: f"{e.panel}: {e.text[:60]}")
def test_expression_asks_for_series_that_exist(expression: Expression) -> None:
    found = SELECTOR.findall(expression.text)
    assert found
    for name, matchers in found:
        metric = SERIES.get(name) or SERIES.get(SUFFIXES.sub("", name))
        assert metric is not None, f"{name} is not in tandem_wire.metrics"
        assert (metric.kind == "histogram") == (name != metric.name), f"{name} is a {metric.kind}"
        asked = set(re.findall(r"(\w+)\s*[=!]~?", matchers))
        grouped = {label.strip() for group in GROUPING.findall(expression.text) for label in group.split(",")}
        assert asked | grouped <= {*metric.labels, *TARGET_LABELS}


def test_counters_are_rated_before_they_are_shown() -> None:
    shown_as_they_are = {"tandem_planner_decisions_total"}
    for expression in expressions():
        for name, _ in SELECTOR.findall(expression.text):
            if name.endswith(("_total", "_bucket", "_sum", "_count")) and name not in shown_as_they_are:
                assert f"rate({name}" in expression.text


def test_variables_are_defined() -> None:
    defined = {variable["name"] for variable in json.loads(DASHBOARD.read_text())["templating"]["list"]}
    used = {name for e in expressions() for name in re.findall(r"\$(\w+)", e.text)}
    assert used - GRAFANA <= defined == {"datasource", "namespace", "llmservice"}


def test_what_the_dashboard_has_to_show() -> None:
    text = " ".join(expression.text for expression in expressions())
    for metric in (
        *(metrics.ROUTER_REQUESTS, metrics.ROUTER_TTFT, metrics.ROUTER_TPOT, metrics.ROUTER_SLO),
        *(metrics.POOL_REPLICAS, metrics.WORKER_KV_USAGE, metrics.WORKER_QUEUE_WAIT, metrics.ROUTER_PATH),
        *(metrics.WORKER_TRANSFER_BYTES, metrics.PLANNER_DECISIONS, metrics.PLANNER_DESIRED),
    ):
        assert metric.name in text


def test_panels_lie_on_the_grid_side_by_side() -> None:
    ids = [panel["id"] for panel in panels()]
    assert len(ids) == len(set(ids))
    cells: set[tuple[int, int]] = set()
    for panel in panels():
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24
        columns = range(grid["x"], grid["x"] + grid["w"])
        area = set(itertools.product(columns, range(grid["y"], grid["y"] + grid["h"])))
        assert not area & cells, f"{panel['title']} lies on another panel"
        cells |= area


def test_every_query_takes_the_chosen_data_source() -> None:
    for panel in panels():
        targets = panel.get("targets", [])
        assert (panel["type"] == "row") == (not targets)
        assert len({target["refId"] for target in targets}) == len(targets)
        assert all(target["datasource"]["uid"] == "${datasource}" for target in targets)
