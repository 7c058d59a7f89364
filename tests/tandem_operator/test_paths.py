"""Whether prompts are handed over as the spec says: the condition, and the watch that feeds it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tandem_operator.api import LLMService
from tandem_operator.path_watch import PathWatch
from tandem_operator.paths import Route, disaggregating
from tandem_operator.scaling import MetricsSource

MakeService = Callable[..., LLMService]

HANDED, SHORT = Route("disaggregated", "pair_available"), Route("local", "short_prompt")
NO_PAIR, DONE = Route("local", "no_pair"), Route("local", "finished_at_first_token")
LOST = Route("fallback", "decode_error")
MIXED = [{"name": "all", "role": "mixed"}]


def service(make: MakeService, mode: str, **more: Any) -> LLMService:
    return make(router={"disaggregation": {"mode": mode}}, **more)


@pytest.mark.parametrize(
    ("mode", "paths", "status", "reason"),
    [
        ("auto", {HANDED: 50, SHORT: 50}, "True", "HandingOver"),
        ("auto", {HANDED: 1, SHORT: 99}, "True", "HandingOver"),
        ("auto", {SHORT: 100}, "False", "SilentLocal"),
        ("auto", {DONE: 100}, "True", "HandingOver"),
        ("auto", {HANDED: 80, LOST: 20}, "False", "FallingBack"),
        ("always", {HANDED: 100, DONE: 50}, "True", "HandingOver"),
        ("always", {HANDED: 80, NO_PAIR: 20}, "False", "PartlyLocal"),
        ("always", {NO_PAIR: 20}, "False", "SilentLocal"),
        ("always", {LOST: 20}, "False", "FallingBack"),
        ("auto", None, "Unknown", "TooFewRequests"),
        ("never", {NO_PAIR: 20}, "False", "TurnedOff"),
    ],
)
def test_paths_are_held_against_the_spec(
    make_service: MakeService, mode: str, paths: Mapping[Route, float] | None, status: str, reason: str
) -> None:
    found = disaggregating(service(make_service, mode), paths)
    assert found is not None
    assert (found.status, found.reason) == (status, reason)


def test_the_commonest_reason_is_told(make_service: MakeService) -> None:
    found = disaggregating(service(make_service, "always"), {NO_PAIR: 30, SHORT: 12, HANDED: 8})
    assert found is not None
    assert "local because of no_pair" in found.message


def test_a_service_of_mixed_workers_only_has_no_such_condition(make_service: MakeService) -> None:
    assert disaggregating(service(make_service, "auto", pools=MIXED), {SHORT: 100}) is None
    found = disaggregating(service(make_service, "always", pools=MIXED), None)
    assert found is not None
    assert (found.status, found.reason) == ("False", "NoPrefillPool")


class Router:
    """A router's /metrics: requests by path so far."""

    def __init__(self) -> None:
        self.paths: dict[Route, float] = {HANDED: 0, SHORT: 0}

    async def answer(self, _request: web.Request) -> web.Response:
        labels = 'llmservice="base",model="m"'
        lines = [
            f'tandem_router_path_total{{{labels},path="{route.path}",reason="{route.reason}"}} {count}'
            for route, count in self.paths.items()
        ]
        return web.Response(text="# TYPE tandem_router_path counter\n" + "\n".join(lines) + "\n")


@asynccontextmanager
async def watched(router: Router, woken: asyncio.Queue[tuple[str, str]]) -> AsyncIterator[PathWatch]:
    app = web.Application()
    app.router.add_get("/metrics", router.answer)
    async with TestServer(app) as server:

        async def sources(*_: str) -> list[MetricsSource]:
            return [MetricsSource("router", str(server.make_url("/metrics")), "router")]

        loop = asyncio.get_running_loop()
        watch = PathWatch(sources, lambda *key: woken.put_nowait(key), loop.time, interval=0.02)
        yield watch
        await watch.close()


async def test_a_router_that_serves_everything_locally_is_noticed(make_service: MakeService) -> None:
    router, woken, base = Router(), asyncio.Queue[tuple[str, str]](), service(make_service, "auto")
    async with watched(router, woken) as watch, asyncio.timeout(5):
        watch.ensure(base)
        while watch.paths("default", "base") is None:
            router.paths[SHORT] += 10
            await asyncio.sleep(0.01)
        assert await woken.get() == ("default", "base")
        found = disaggregating(base, watch.paths("default", "base"))
        assert found is not None
        assert found.reason == "SilentLocal"
        router.paths[HANDED] += 1000
        assert await woken.get() == ("default", "base")
        watch.ensure(service(make_service, "never"))
        assert watch.paths("default", "base") is None
