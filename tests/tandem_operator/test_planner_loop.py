import asyncio
from dataclasses import replace

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client import CollectorRegistry

from tandem_operator.api import LLMService, Role
from tandem_operator.planner.loop import PlannerLoop, settings
from tandem_operator.planner.publish import PLANNER_METRICS, PlannerMetrics
from tandem_operator.scaling import MetricsSource, PoolState, ScalingDecision
from tandem_operator.validation import load_service
from tandem_wire.collectors import Collectors


def service(mode: str = "slo", **autoscaling: object) -> LLMService:
    bounds = {"replicas": 2, "minReplicas": 1, "maxReplicas": 4}
    pools = [{"name": role, "role": role, **bounds} for role in ("prefill", "decode")]
    return load_service(
        {
            "apiVersion": "tandemserve.dev/v1alpha1",
            "kind": "LLMService",
            "metadata": {"name": "demo", "namespace": "here"},
            "spec": {
                "model": {"name": "m", "source": {"path": "m"}},
                "pools": pools,
                "autoscaling": {"mode": mode, **autoscaling},
            },
        }
    )


class Fleet:
    """Two pools in memory; `gauges` is what every process exposes."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.states = [PoolState("prefill", "prefill", 2, 2), PoolState("decode", "decode", 2, 2)]
        self.decisions: list[ScalingDecision] = []
        self.broken = False
        self.failed = asyncio.Event()
        self.enacted = asyncio.Event()

    async def pools(self) -> tuple[PoolState, ...]:
        if self.broken:
            self.failed.set()
            raise ConnectionError("the API server is away")
        return tuple(self.states)

    async def sources(self) -> tuple[MetricsSource, ...]:
        return (MetricsSource("all", self.url, "worker"),)

    async def enact(self, decision: ScalingDecision) -> None:
        self.decisions.append(decision)
        self.enacted.set()
        for index, state in enumerate(self.states):
            count = decision.replicas.get(state.name, state.replicas)
            self.states[index] = replace(state, replicas=count, ready=count)


def exposition(kv_usage: float) -> str:
    """Both pools' workers and the router, in one text."""
    roles: tuple[Role, ...] = ("prefill", "decode")
    lines = ['tandem_router_endpoints{llmservice="demo",role="prefill",state="ready"} 2']
    for role in roles:
        for number in range(2):
            labels = f'llmservice="demo",pool="{role}",role="{role}",revision="{number}"'
            lines.append(f"tandem_worker_info{{{labels}}} 1")
            lines.append(f"tandem_worker_kv_usage_ratio{{{labels}}} {kv_usage}")
    return "\n".join([*lines, ""])


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> PlannerMetrics:
    return PlannerMetrics(Collectors(PLANNER_METRICS, registry))


class Endpoint:
    """A process whose KV use can be set."""

    def __init__(self) -> None:
        self.kv_usage = 0.0
        self.server = TestServer(self._app())

    def _app(self) -> web.Application:
        async def answer(request: web.Request) -> web.Response:
            return web.Response(text=exposition(self.kv_usage))

        app = web.Application()
        app.router.add_get("/metrics", answer)
        return app


async def test_load_grows_a_pool_and_its_end_shrinks_it(
    registry: CollectorRegistry, metrics: PlannerMetrics
) -> None:
    endpoint, clock = Endpoint(), Clock()
    async with endpoint.server as server:
        fleet = Fleet(str(server.make_url("/metrics")))
        loop = PlannerLoop(service, fleet, metrics, clock)
        endpoint.kv_usage = 0.9
        for clock.now in (0.0, 15.0):
            await loop.step()
        endpoint.kv_usage = 0.1
        for clock.now in range(30, 200, 15):
            await loop.step()
    grown = fleet.decisions[1]
    assert grown.replicas == {"decode": 3}
    assert grown.reason == "KvUsage"
    assert grown.message == "decode 2 -> 3: KV use 90%, limit 85%"
    shrunk = [d for d in fleet.decisions if d.reason == "Surplus"]
    assert {pool: count for d in shrunk for pool, count in d.replicas.items()}["prefill"] == 1
    labels = {"namespace": "here", "llmservice": "demo", "pool": "decode", "role": "decode"}
    up = {**labels, "direction": "up", "reason": "kv_usage"}
    assert registry.get_sample_value("tandem_planner_decisions_total", up) == 1
    assert registry.get_sample_value("tandem_planner_desired_replicas", labels) == 3


async def test_without_metrics_it_holds_and_tells(
    registry: CollectorRegistry, metrics: PlannerMetrics
) -> None:
    fleet = Fleet("http://127.0.0.1:1/metrics")
    await PlannerLoop(service, fleet, metrics).step()
    text = "none of 1 ready processes gave metrics"
    assert fleet.decisions == [ScalingDecision("NoData", text, observed=False)]
    labels = {"namespace": "here", "llmservice": "demo", "reason": "unreachable"}
    assert registry.get_sample_value("tandem_planner_errors_total", labels) == 1


async def test_a_service_that_is_scaled_by_hand_is_left_alone(metrics: PlannerMetrics) -> None:
    fleet = Fleet("http://127.0.0.1:1/metrics")
    await PlannerLoop(lambda: service("manual"), fleet, metrics).step()
    assert fleet.decisions == []


async def test_the_address_of_prometheus_may_change(metrics: PlannerMetrics) -> None:
    fleet = Fleet("http://127.0.0.1:1/metrics")
    current = [service()]
    loop = PlannerLoop(lambda: current[0], fleet, metrics)
    await loop.step()
    current[0] = service(prometheus="http://127.0.0.1:1")
    await loop.step()
    assert "ready processes" in fleet.decisions[0].message
    assert "Prometheus does not answer" in fleet.decisions[1].message


async def test_a_failed_pass_is_not_the_end(
    registry: CollectorRegistry, metrics: PlannerMetrics, caplog: pytest.LogCaptureFixture
) -> None:
    fleet = Fleet("http://127.0.0.1:1/metrics")
    fleet.broken = True
    loop = PlannerLoop(lambda: service(interval="10ms"), fleet, metrics)
    running = asyncio.create_task(loop.run())
    async with asyncio.timeout(10):
        await fleet.failed.wait()
        fleet.broken = False
        await fleet.enacted.wait()
    assert "the planner's pass over here/demo failed" in caplog.text
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    labels = {"namespace": "here", "llmservice": "demo", "reason": "scaling"}
    assert registry.get_sample_value("tandem_planner_errors_total", labels) == 1
    gauge = {"namespace": "here", "llmservice": "demo", "pool": "decode", "role": "decode"}
    assert registry.get_sample_value("tandem_planner_desired_replicas", gauge) is None


def test_settings_come_from_the_service() -> None:
    got = settings(service(interval="5s", cooldown={"up": "0s", "down": "2m"}))
    assert (got.interval, got.window) == (5, 20)
    assert (got.config.cooldown_up, got.config.cooldown_down) == (0, 120)
    assert (got.config.slo.ttft, got.config.slo.tpot, got.config.slo.attainment) == (0.5, 0.04, 0.95)
