"""From samples to the table: which samples count, medians, ratios and verdicts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tandem_bench.router import page
from tandem_bench.router.figures import FIGURES, Figure, pace, scaling, values
from tandem_bench.router.machine import MachineError, share_out
from tandem_bench.router.result import Result, conclude, read, write
from tandem_bench.router.samples import Sample, SampleFile, quietest
from tandem_bench.router.tables import figures_table, goals_table, markdown, ratio, ratio_table, verdict

COUNTERS = ("aborts", "requests", "handovers")
MORE = Figure(
    "rate", "rate", "/s", "256b", lambda s: s["requests_per_s"], more_is_better=True, must=9, aim=18
)
LESS = Figure("wait", "wait", "ms", "256b", lambda s: s["requests_per_s"], must=9, aim=4)


def sample(peer: str, rate: float, *, phase: str = "256b", foreign: float = 0.0, **more: Any) -> Sample:
    nothing = {"mean": -1.0, "p50": -1.0, "p99": -1.0}
    seen: dict[str, Any] = {
        "requests": int(rate * 3), "requests_per_s": rate, "events": 0, "cpu": 300.0, "with_first": 0,
        "latency": {"p50": 1000.0, "p99": 2000.0}, "first": nothing, "gap": nothing, "transit": nothing,
        "rss_before": 1024, "rss_after": 2048, "errors": 0, "refused": 0, "short_streams": 0,
        "router_cpu_seconds": [3.0], "foreign_cores": foreign,
        "engines": {role: dict.fromkeys(COUNTERS, 0) for role in ("regular", "prefill", "decode")},
    }  # fmt: skip
    return Sample(peer, phase, seen | more)


def test_the_quietest_samples_count() -> None:
    samples = [sample("tandem", rate, foreign=foreign) for rate, foreign in [(1, 0.5), (2, 0.1), (3, -0.02)]]
    kept = quietest(samples, 2)["tandem", "256b"]
    assert [each.seen["requests_per_s"] for each in kept] == [3, 2]


def test_what_it_takes_without_a_router_is_taken_off() -> None:
    figure = next(f for f in FIGURES if f.name == "one-client")
    group = {
        (name, "one"): [sample(name, 1, phase="one", latency={"p50": us}) for us in times]
        for name, times in {"direct": (100.0, 200.0, 300.0), "tandem": (500.0, 700.0)}.items()
    }
    assert values(figure, group) == {"tandem": [pytest.approx(0.3), pytest.approx(0.5)]}


def test_a_ratio_above_one_is_better_whichever_way_the_figure_runs() -> None:
    assert ratio(MORE, [20, 22, 24], [10, 11, 12]) == "2.00 (1.67 to 2.40)"
    assert ratio(LESS, [10, 11, 12], [20, 22, 24]) == "2.00 (1.67 to 2.40)"
    assert ratio(LESS, [10], None) == "-"


@pytest.mark.parametrize(
    ("figure", "ours", "word"),
    [
        (MORE, [8.0], "no"),
        (MORE, [9.0], "must"),
        (MORE, [1.0, 18.0, 20.0], "aim"),
        (LESS, [10.0], "no"),
        (LESS, [5.0], "must"),
        (LESS, [4.0], "aim"),
        (LESS, None, "not measured"),
    ],
)
def test_the_verdict_is_of_the_median(figure: Figure, ours: list[float] | None, word: str) -> None:
    assert verdict(figure, ours) == word


def test_what_is_to_be_reached_follows_the_pace_of_the_peers() -> None:
    figure = replace(MORE, then={"sglang-router": 10.0, "vllm-router": 5.0, "gone": 1.0})
    found = {"sglang-router": [5.0], "vllm-router": [2.5], "tandem": [9.0]}
    assert pace(figure, found) == pytest.approx(0.5)
    assert verdict(figure, found["tandem"]) == "must"
    assert verdict(figure, found["tandem"], 0.5) == "aim"
    assert pace(MORE, found) is None


def test_two_processes_on_two_cores_are_judged_by_cpu_and_evenness() -> None:
    chosen = {
        ("tandem", "256b"): [sample("tandem", 100, cpu=300.0)],
        ("tandem-2-processes", "256b"): [
            sample("tandem-2-processes", 120, cpu=360.0, router_cpu_seconds=[0.2, 0.1])
        ],
    }
    assert scaling(chosen, cores=2) == [pytest.approx(1.5)]
    assert scaling(chosen, cores=4) == [pytest.approx(1.2)]


def test_a_result_goes_to_json_and_back_and_into_the_page(tmp_path: Path) -> None:
    samples = [sample("tandem", 10_000.0), sample("bare-proxy", 2_500.0)]
    result = conclude(samples, 1, {"dynamo": "own workers"}, {"default policies": {"100": 80.0}})
    write(result, tmp_path / "r.json")
    page_path = tmp_path / "results.md"
    page_path.write_text(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n")
    page.publish(tmp_path / "r.json", page_path, tmp_path / "kept" / "router.json")
    text = page_path.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "`dynamo`: own workers" in text
    assert "4.00 (4.00 to 4.00)" in text
    assert read(tmp_path / "kept" / "router.json") == read(tmp_path / "r.json")


def test_a_page_without_marks_is_left_alone() -> None:
    with pytest.raises(page.PageError, match="router: begin"):
        page.replaced("nothing here", "new")


def test_tables_hold_only_what_was_measured() -> None:
    result: Result = conclude([sample("tandem", 10_000.0)], 1, {}, {})
    assert "bare-proxy" not in figures_table(result)
    assert "1 MiB" not in figures_table(result)
    assert ratio_table(result).count("\n") >= 2


def test_a_goal_that_was_not_measured_is_shown_as_that() -> None:
    lines = goals_table(conclude([sample("tandem", 10_000.0)], 1, {}, {})).splitlines()
    reached = {line.split("|")[1].strip(): line.split("|")[5].strip() for line in lines[2:]}
    assert reached["requests/s, 64 clients, 256 B prompts"] == "must"
    assert reached["CPU per request, 1 MiB prompts, ms"] == "not measured"


def test_a_table_is_aligned() -> None:
    assert markdown(["a", "bb"], [["long", "c"]]).splitlines() == [
        "| a    | bb |",
        "| ---- | -- |",
        "| long | c  |",
    ]


def test_a_run_that_was_cut_off_is_resumed(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    SampleFile(path, resume=False).add(sample("tandem", 1.0, foreign=0.5))
    again = SampleFile(path, resume=True)
    again.add(sample("tandem", 2.0))
    assert again.quiet("tandem", "256b") == 1
    assert len(SampleFile(path, resume=True).samples) == 2
    assert SampleFile(path, resume=False).samples == ()


def test_cores_are_shared_out() -> None:
    assert _shared(2) == ([0], [1], [1])
    assert _shared(4, processes=2) == ([0, 1], [2], [3])
    assert _shared(2, processes=2) == ([0, 1], [0], [1])
    with pytest.raises(MachineError, match="two cores"):
        _shared(1)


def _shared(count: int, processes: int = 1) -> tuple[list[int], ...]:
    cores = share_out(frozenset(range(count)), processes)
    return sorted(cores.router), sorted(cores.engine), sorted(cores.load)
