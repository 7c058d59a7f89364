import asyncio
import os
import shutil
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from tandem_operator.planner.types import Observation, PoolObservation
from tandem_operator.scaling import MetricsSource
from tandem_operator.telemetry.base import TelemetryError
from tandem_operator.telemetry.history import History, Point, Series, increase
from tandem_operator.telemetry.prometheus import PrometheusTelemetry
from tandem_operator.telemetry.readings import READINGS, Fold, Reading, promql
from tandem_operator.telemetry.scrape import ScrapeTelemetry, parse
from tandem_wire import metrics
from tandem_wire.collectors import Collectors

WINDOW = 60.0


class Fleet:
    """Two prefill workers, one decode worker and a router of service `demo`, as exposition texts."""

    def __init__(self) -> None:
        self.registries = {name: CollectorRegistry() for name in ("p0", "p1", "d0", "router")}
        self.collectors = {name: Collectors(metrics.ALL, made) for name, made in self.registries.items()}
        for name, pool in (("p0", "prefill"), ("p1", "prefill"), ("d0", "decode")):
            info = self.collectors[name].gauge(metrics.WORKER_INFO)
            info.labels("demo", pool, pool, "m", "r", "cpu").set(1)
            self.gauge(name, metrics.WORKER_RUNNING, 0)
            self.gauge(name, metrics.WORKER_WAITING, 0)
            self.gauge(name, metrics.WORKER_BACKLOG, 0)
            self.gauge(name, metrics.WORKER_KV_USAGE, 0)
        self.collectors["router"].gauge(metrics.ROUTER_ENDPOINTS).labels("demo", "prefill", "ready").set(2)

    def labels(self, name: str) -> tuple[str, str, str]:
        pool = "decode" if name == "d0" else "prefill"
        return ("demo", pool, pool)

    def gauge(self, name: str, metric: metrics.Metric, value: float) -> None:
        self.collectors[name].gauge(metric).labels(*self.labels(name)).set(value)

    def started(self, name: str, waits: list[float], steps: float = 0.0, tokens: int = 0) -> None:
        collectors, labels = self.collectors[name], self.labels(name)
        for wait in waits:
            collectors.histogram(metrics.WORKER_QUEUE_WAIT).labels(*labels).observe(wait)
        collectors.histogram(metrics.WORKER_STEP).labels(*labels, "prefill").observe(steps)
        collectors.counter(metrics.WORKER_PREFILL_TOKENS).labels(*labels).inc(tokens)

    def decoded(self, *steps: float) -> None:
        histogram = self.collectors["d0"].histogram(metrics.WORKER_STEP).labels(*self.labels("d0"), "decode")
        for seconds in steps:
            histogram.observe(seconds)

    def finished(self, met: int, missed: int) -> None:
        counter = self.collectors["router"].counter(metrics.ROUTER_SLO)
        for objective in ("ttft", "tpot", "both"):
            counter.labels("demo", "m", objective, "true").inc(met)
            counter.labels("demo", "m", objective, "false").inc(missed if objective != "tpot" else 0)

    def past(self) -> None:
        """Much work, long ago: it must not count."""
        for name in ("p0", "p1", "d0"):
            self.started(name, [9.0] * 1000, steps=5000, tokens=1_000_000)
        self.decoded(*[1.0] * 1000)
        self.finished(met=1000, missed=1000)

    def load(self) -> None:
        """Work as it would be reported between two scrapes."""
        self.started("p0", [0.2, 0.4], steps=1.5, tokens=3000)
        self.started("p1", [0.3], steps=0.5, tokens=1000)
        self.started("d0", [0.02], steps=0.0)
        self.decoded(0.01, 0.03)
        self.finished(met=8, missed=2)
        self.gauge("p0", metrics.WORKER_BACKLOG, 700)
        self.gauge("p1", metrics.WORKER_BACKLOG, 300)
        self.gauge("d0", metrics.WORKER_RUNNING, 4)
        self.gauge("d0", metrics.WORKER_WAITING, 1)
        self.gauge("d0", metrics.WORKER_KV_USAGE, 0.25)

    def exposition(self, name: str) -> str:
        return generate_latest(self.registries[name]).decode()


@asynccontextmanager
async def served(fleet: Fleet) -> AsyncIterator[BaseTestServer]:
    """Every process's metrics under `/<name>/metrics`."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=fleet.exposition(request.match_info["name"]))

    app = web.Application()
    app.router.add_get("/{name}/metrics", answer)
    async with TestServer(app) as server:
        yield server


def sources(server: BaseTestServer, *names: str) -> list[MetricsSource]:
    return [MetricsSource(name, str(server.make_url(f"/{name}/metrics")), "worker") for name in names]


def scraper(server: BaseTestServer, *names: str, window: float = WINDOW) -> ScrapeTelemetry:
    async def known() -> list[MetricsSource]:
        return sources(server, *names)

    return ScrapeTelemetry(known, "demo", window)


async def test_a_scrape_sees_the_load_between_two_passes() -> None:
    fleet = Fleet()
    fleet.past()
    async with served(fleet) as server:
        telemetry = scraper(server, *fleet.registries)
        first = await telemetry.observe(1000.0)
        fleet.load()
        second = await telemetry.observe(1060.0)
    assert first.requests == 0
    assert first.ttft_attainment is None
    assert second.requests == pytest.approx(10)
    assert second.ttft_attainment == pytest.approx(0.8)
    assert second.tpot_attainment == 1.0
    prefill, decode = second.pools["prefill"], second.pools["decode"]
    assert (prefill.workers, prefill.backlog_tokens) == (2, 1000)
    assert prefill.queue_wait == pytest.approx(0.3)
    assert prefill.prefill_rate == pytest.approx(2000)
    assert prefill.prefill_busy == pytest.approx(2.0 / 60 / 2)
    assert (decode.running, decode.waiting, decode.kv_usage) == (4, 1, 0.25)
    assert decode.rate == pytest.approx(1 / 60)
    assert decode.prefill_rate is None
    assert decode.decode_step == pytest.approx(0.02)
    assert prefill.decode_step is None


async def test_what_waits_in_the_router_waits_for_the_pool_that_computes_prompts() -> None:
    fleet = Fleet()
    fleet.past()
    router = fleet.collectors["router"]
    router.histogram(metrics.ROUTER_QUEUE_WAIT).labels("demo", "default").observe(100.0)
    async with served(fleet) as server:
        telemetry = scraper(server, *fleet.registries)
        await telemetry.observe(1000.0)
        fleet.load()
        router.gauge(metrics.ROUTER_QUEUE_DEPTH).labels("demo", "default").set(3)
        router.gauge(metrics.ROUTER_QUEUE_TOKENS).labels("demo", "default").set(5000)
        for wait in (0.0, 2.0):
            router.histogram(metrics.ROUTER_QUEUE_WAIT).labels("demo", "default").observe(wait)
        seen = await telemetry.observe(1060.0)
    prefill, decode = seen.pools["prefill"], seen.pools["decode"]
    assert (prefill.waiting, prefill.backlog_tokens, decode.backlog_tokens) == (3, 1000 + 5000, 0)
    assert prefill.queue_wait == pytest.approx(0.3 + 1.0)
    assert decode.queue_wait == pytest.approx(0.02)


async def test_a_worker_that_does_not_answer_is_not_counted() -> None:
    fleet = Fleet()
    async with served(fleet) as server:
        seen = await scraper(server, "p0", "nobody", "router").observe(0.0)
    assert seen.pools["prefill"].workers == 1
    assert "decode" not in seen.pools


async def test_without_a_router_there_are_no_requests_to_speak_of() -> None:
    fleet = Fleet()
    async with served(fleet) as server:
        seen = await scraper(server, "p0").observe(0.0)
    assert seen.requests is None


async def test_nobody_answering_is_an_error_that_says_so() -> None:
    fleet = Fleet()
    async with served(fleet) as server:
        with pytest.raises(TelemetryError, match="none of 1 ready processes gave metrics") as caught:
            await scraper(server, "nobody").observe(0.0)
        with pytest.raises(TelemetryError, match="no process is ready"):
            await scraper(server).observe(0.0)
    assert caught.value.reason == "unreachable"


async def test_impossible_numbers_are_refused() -> None:
    fleet = Fleet()
    fleet.gauge("d0", metrics.WORKER_KV_USAGE, float("nan"))
    async with served(fleet) as server:
        with pytest.raises(TelemetryError, match="kv_usage decode is nan"):
            await scraper(server, "d0").observe(0.0)


def test_a_restart_is_no_negative_increase() -> None:
    points = [Point(0, 100), Point(20, 130), Point(40, 5), Point(60, 15)]
    assert increase(points, 0, 60) == pytest.approx(30 + 5 + 10)


def test_a_counter_that_began_lately_is_not_stretched_over_the_window() -> None:
    points = [Point(50, 0), Point(55, 5), Point(60, 10)]
    assert increase(points, 0, 60) == pytest.approx(10)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=2, max_size=10), st.integers(1, 5))
def test_steps_add_up_to_the_increase_when_the_window_is_covered(steps: list[int], interval: int) -> None:
    points, total = [], 100
    for number, step in enumerate(steps):
        total += step
        points.append(Point(number * interval, float(total)))
    grown = increase(points, 0, points[-1].at)
    assert grown == pytest.approx(sum(steps[1:]))


def test_samples_leave_the_history_with_the_window() -> None:
    history = History(10)
    reading = Reading("requests", "r_total", Fold.INCREASE, by=())
    series = Series("router", "r_total", ())
    for now, value in ((0, 0), (5, 100), (25, 100), (30, 100), (35, 101)):
        history.record({series: value}, now)
    assert history.read(reading, {})[()] == pytest.approx(1)


def test_text_that_is_no_exposition_is_refused() -> None:
    with pytest.raises(ValueError, match=r"."):
        parse("x", metrics.WORKER_INFO.name + '{pool="a} 1\n')


def test_queries_quote_what_a_name_may_contain() -> None:
    reading = next(r for r in READINGS if r.key == "prefill_seconds")
    series = r'tandem_worker_step_seconds_sum{llmservice="a\"b\\",phase=~"prefill|mixed"}'
    assert promql(reading, {"llmservice": 'a"b\\'}, 60) == f"sum by (pool) (increase({series}[60000ms]))"


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (200, "<html>", "does not answer as Prometheus does"),
        (502, "bad gateway", "does not answer as Prometheus does"),
        (400, '{"status": "error", "errorType": "bad_data", "error": "parse error"}', "parse error"),
        (200, '{"status": "success", "data": {"resultType": "vector", "result": []}}', "does not answer as"),
    ],
)
async def test_a_bad_answer_of_prometheus_is_an_error_in_words(status: int, body: str, text: str) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, text=body)

    app = web.Application()
    app.router.add_post("/api/v1/query", answer)
    async with TestServer(app) as server:
        telemetry = PrometheusTelemetry(str(server.make_url("/")), "default", "demo", WINDOW)
        with pytest.raises(TelemetryError, match=text) as caught:
            await telemetry.observe(0.0)
    assert caught.value.reason == "bad_answer"


async def test_all_queries_are_of_one_moment() -> None:
    """Else a sum and its count may come from different scrapes."""
    asked = []

    async def answer(request: web.Request) -> web.Response:
        form = await request.post()
        asked.append((form["query"], form.get("time")))
        scalar = {"resultType": "scalar", "result": [1234.5, "1234.5"]}
        vector = {"resultType": "vector", "result": []}
        return web.json_response(
            {"status": "success", "data": scalar if form["query"] == "time()" else vector}
        )

    app = web.Application()
    app.router.add_post("/api/v1/query", answer)
    async with TestServer(app) as server:
        telemetry = PrometheusTelemetry(str(server.make_url("/")), "default", "demo", WINDOW)
        assert await telemetry.observe(0.0) == Observation(WINDOW, None, None, None, {})
    assert asked[0] == ("time()", None)
    assert len(asked) == 1 + len(READINGS)
    assert {time for _, time in asked[1:]} == {"1234.5"}


async def test_no_prometheus_is_an_error_in_words() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        telemetry = PrometheusTelemetry(url, "default", "demo", WINDOW)
        with pytest.raises(TelemetryError, match="Prometheus does not answer"):
            await telemetry.observe(0.0)


@asynccontextmanager
async def prometheus(folder: Path, server: BaseTestServer, names: list[str]) -> AsyncIterator[str]:
    """A real Prometheus that scrapes the fleet every 200 ms."""
    binary = shutil.which("prometheus")
    if binary is None and not os.environ.get("TANDEM_REQUIRE_PROMETHEUS"):
        pytest.skip("no `prometheus` binary (Debian package prometheus)")
    jobs = [
        f"{{job_name: {name}, metrics_path: /{name}/metrics, static_configs:"
        f" [{{targets: ['127.0.0.1:{server.port}'], labels: {{namespace: default}}}}]}}"
        for name in names
    ]
    config = folder / "prometheus.yml"
    every = "global: {scrape_interval: 200ms, scrape_timeout: 200ms}"
    config.write_text(f"{every}\nscrape_configs: [{', '.join(jobs)}]\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    process = await asyncio.create_subprocess_exec(
        *(binary or "prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"),
        *(f"--web.listen-address={address}", "--log.level=error"),
    )
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 10)


async def until_scraped(url: str, targets: int) -> None:
    """Returns when every target has been scraped by a scrape that began after this call."""
    query, value = f"count(timestamp(up) > {time.time():.3f})", str(targets)
    async with aiohttp.ClientSession() as session, asyncio.timeout(20):
        while True:
            try:
                async with session.get(f"{url}/api/v1/query", params={"query": query}) as response:
                    answer = await response.json()
                if [series["value"][1] for series in answer["data"]["result"]] == [value]:
                    return
            except (aiohttp.ClientError, KeyError):
                pass
            await asyncio.sleep(0.1)


@pytest.mark.prometheus
async def test_a_real_prometheus_and_a_scrape_give_the_same_observation(tmp_path: Path) -> None:
    fleet = Fleet()
    fleet.past()
    loop = asyncio.get_running_loop()
    async with served(fleet) as server, prometheus(tmp_path, server, [*fleet.registries]) as url:
        scrape = scraper(server, *fleet.registries, window=30)
        await until_scraped(url, len(fleet.registries))
        await scrape.observe(loop.time())
        fleet.load()
        await until_scraped(url, len(fleet.registries))
        scraped = await scrape.observe(loop.time())
        queried = await PrometheusTelemetry(url, "default", "demo", 30).observe(0.0)
        stranger = await PrometheusTelemetry(url, "elsewhere", "demo", 30).observe(0.0)
    assert_same(scraped, queried)
    assert queried.ttft_attainment == pytest.approx(0.8, rel=0.01)
    assert queried.pools["prefill"].queue_wait == pytest.approx(0.3, rel=0.02)
    assert stranger == Observation(30, None, None, None, {})


def assert_same(one: Observation, other: Observation) -> None:
    """Equal but for rates over the window, which depend on when each of them looked."""

    def without_rates(seen: PoolObservation) -> PoolObservation:
        return replace(seen, prefill_busy=0.0, queue_wait=None, prefill_rate=None, decode_step=None, rate=0.0)

    assert one.requests == pytest.approx(other.requests, rel=0.5)
    assert one.ttft_attainment == pytest.approx(other.ttft_attainment, rel=0.01)
    assert one.tpot_attainment == pytest.approx(other.tpot_attainment)
    assert {name: without_rates(seen) for name, seen in one.pools.items()} == {
        name: without_rates(seen) for name, seen in other.pools.items()
    }
    for name, seen in one.pools.items():
        assert seen.prefill_busy == pytest.approx(other.pools[name].prefill_busy, rel=0.5)
        assert seen.rate == pytest.approx(other.pools[name].rate, rel=0.5)
        for rate in ("prefill_rate", "queue_wait", "decode_step"):
            mine, theirs = getattr(seen, rate), getattr(other.pools[name], rate)
            assert (mine is None) == (theirs is None)
            assert (mine or 0.0) == pytest.approx(theirs or 0.0, rel=0.02)
