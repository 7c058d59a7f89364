"""Engines' metrics become reports; old ones are marked; many workers are asked less often."""

import asyncio

import pytest

from tandem_router.reports.book import ReportBook
from tandem_router.reports.series import read_metrics, series_of
from tandem_router.reports.watcher import ReportWatcher
from tandem_router.types import Endpoint, Report, Role

VLLM = b"""# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 4.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 2.0
vllm:num_requests_waiting{engine="1",model_name="m"} 0.0
# TYPE vllm:num_requests_waiting_by_reason gauge
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 9.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.5
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.25
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="100",cache_dtype="auto"} 1.0
vllm:cache_config_info{block_size="16",engine="1",num_gpu_blocks="100",cache_dtype="auto"} 1.0
# TYPE vllm:lora_requests_info gauge
vllm:lora_requests_info{max_lora="2",running_lora_adapters="old",waiting_lora_adapters=""} 1.7e+09
vllm:lora_requests_info{max_lora="2",running_lora_adapters="a,b",waiting_lora_adapters="c"} 1.8e+09
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{le="0.001"} 0.0
"""
SGLANG = b"""sglang:num_running_reqs{model_name="m"} 5.0
sglang:num_queue_reqs{model_name="m"} 1.0
sglang:token_usage{model_name="m"} 0.75
sglang:max_total_num_tokens{model_name="m"} 5000.0
"""
TRTLLM = b"""trtllm_num_requests_running 1.0
trtllm_num_requests_waiting 0.0
trtllm_kv_cache_utilization 0.1
"""
NATIVE = b"""tandem_worker_requests_running{pool="p"} 2.0
tandem_worker_requests_waiting{pool="p"} 1.0
tandem_worker_prefill_backlog_tokens{pool="p"} 700.0
tandem_worker_kv_usage_ratio{pool="p"} 0.5
"""


@pytest.mark.parametrize(
    ("engine", "text", "expected"),
    [
        ("vllm", VLLM, Report(7, 2, None, 0.375, 3200, frozenset("abc"))),
        ("vllm-push", VLLM, Report(7, 2, None, 0.375, 3200, frozenset("abc"))),
        ("sglang", SGLANG, Report(5, 1, None, 0.75, 5000)),
        ("trtllm", TRTLLM, Report(1, 0, None, 0.1)),
        ("native", NATIVE, Report(2, 1, 700, 0.5)),
    ],
)
def test_each_engines_names(engine: str, text: bytes, expected: Report) -> None:
    series = series_of(engine)
    assert series is not None
    assert read_metrics(series, text) == expected


def test_what_is_no_report() -> None:
    series = series_of("vllm")
    assert series is not None
    assert read_metrics(series, b"up 1\n") is None
    with pytest.raises(ValueError):
        read_metrics(series, b'vllm:num_requests_running{engine="0 3.0\n')
    assert series_of("unheard-of") is None


def test_old_reports_are_marked_and_those_of_gone_workers_forgotten() -> None:
    book = ReportBook()
    book.heard("a", Report(running=3), 0.0)
    book.heard("b", Report(draining=True), 0.0)
    assert book.draining == {"b"}
    book.age("a", 2.0, limit=3.0)
    assert book["a"].fresh
    book.age("a", 4.0, limit=3.0)
    assert book["a"] == Report(running=3, fresh=False)
    book.keep(["a"])
    assert (set(book), book.draining) == ({"a"}, frozenset())


def worker(name: str) -> Endpoint:
    return Endpoint(name, "10.0.0.1", 8100, Role.DECODE, "d", "vllm", "m", "1")


async def test_workers_are_asked_in_turn_and_failures_do_not_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tandem_router.reports.watcher.LEAST_INTERVAL", 0.01)
    asked, at_once, most = 0, 0, 0
    everyone = asyncio.Event()

    async def scrape(endpoint: Endpoint) -> bytes:
        nonlocal asked, at_once, most
        asked, at_once = asked + 1, at_once + 1
        most = max(most, at_once)
        await asyncio.sleep(0)
        at_once -= 1
        if endpoint.name == "w0":
            raise ConnectionError("refused")
        return VLLM

    book = ReportBook()

    def told() -> None:
        if len(book) == 39 and asked > 80:
            everyone.set()

    watcher = ReportWatcher(book, scrape, asyncio.get_running_loop().time, told)
    workers = [worker(f"w{i}") for i in range(40)]
    watcher.know(workers)
    assert watcher.interval == pytest.approx(0.4)
    async with asyncio.timeout(10):
        await everyone.wait()
    assert "w0" not in book
    assert most <= 8
    watcher.know(workers[:2])
    assert set(book) == {"w1"}
    await watcher.close()
