"""The pod watch against an API server of a few lines, over real HTTP."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from kubernetes import client

from tandem_router.discovery import watch
from tandem_router.discovery.kubernetes import PodDiscovery
from tandem_router.types import Endpoint


def pod(name: str, version: int, *, ready: bool = True) -> dict[str, Any]:
    labels = {"role": "decode", "engine": "native", "pool": "decode", "revision": "1"}
    return {
        "metadata": {
            "name": name,
            "resourceVersion": str(version),
            "labels": {f"tandemserve.dev/{key}": value for key, value in labels.items()},
        },
        "spec": {"containers": [{"ports": [{"name": "http", "containerPort": 8100}]}]},
        "status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": str(ready)}]},
    }


@dataclass
class FakeApi:
    """Lists `pods` at `version`; each watch sends what is put into `events`. None ends a watch."""

    pods: list[dict[str, Any]] = field(default_factory=list)
    version: int = 1
    events: asyncio.Queue[dict[str, Any] | None] = field(default_factory=asyncio.Queue)
    asked: asyncio.Queue[dict[str, str]] = field(default_factory=asyncio.Queue)
    broken: int = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        assert request.path == "/api/v1/namespaces/ns/pods"
        self.asked.put_nowait(dict(request.query))
        if self.broken:
            self.broken -= 1
            return web.Response(status=503)
        if request.query.get("watch") != "true" and request.query.get("watch") != "True":
            return web.json_response({"metadata": {"resourceVersion": str(self.version)}, "items": self.pods})
        response = web.StreamResponse()
        await response.prepare(request)
        while (event := await self.events.get()) is not None:
            await response.write(json.dumps(event).encode() + b"\n")
        return response

    async def next_ask(self) -> dict[str, str]:
        async with asyncio.timeout(10):
            return await self.asked.get()


@asynccontextmanager
async def discovering(api: FakeApi) -> AsyncIterator[asyncio.Queue[Sequence[Endpoint]]]:
    app = web.Application()
    app.router.add_get("/{path:.*}", api.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    published: asyncio.Queue[Sequence[Endpoint]] = asyncio.Queue()
    configuration = client.Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}")
    discovery = PodDiscovery("ns", "svc", "recall", configuration)
    task = asyncio.ensure_future(discovery.run(published.put_nowait))
    try:
        yield published
    finally:
        task.cancel()
        await asyncio.wait([task])
        await asyncio.gather(*(asyncio.to_thread(thread.join, 5) for thread in pod_watches()))
        left = pod_watches()
        await runner.cleanup()
        assert not left, "a watch goes on after its end"


def pod_watches() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "pod-watch"]


async def names(published: asyncio.Queue[Sequence[Endpoint]]) -> list[str]:
    """Ready workers of what is published next."""
    async with asyncio.timeout(10):
        return sorted(endpoint.name for endpoint in await published.get() if endpoint.ready)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "FIRST_PAUSE", 0.02)


async def test_pods_are_listed_then_followed() -> None:
    api = FakeApi(pods=[pod("a", 1)], version=7)
    async with discovering(api) as published:
        assert await names(published) == ["a"]
        listed, watched = await api.next_ask(), await api.next_ask()
        assert listed["labelSelector"] == "tandemserve.dev/service=svc,app.kubernetes.io/component=worker"
        assert watched["resourceVersion"] == "7"
        assert 0 < int(watched["timeoutSeconds"]) <= 300
        for event, expected in (
            ({"type": "ADDED", "object": pod("b", 8)}, ["a", "b"]),
            ({"type": "MODIFIED", "object": pod("a", 9, ready=False)}, ["b"]),
            ({"type": "DELETED", "object": pod("b", 10)}, []),
        ):
            api.events.put_nowait(event)
            assert await names(published) == expected


async def test_a_watch_that_ends_is_resumed_where_it_was() -> None:
    api = FakeApi(version=7)
    async with discovering(api) as published:
        await names(published)
        api.events.put_nowait({"type": "ADDED", "object": pod("a", 8)})
        api.events.put_nowait({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "12"}}})
        assert await names(published) == ["a"]
        api.broken = 2
        api.events.put_nowait(None)
        asks = [await api.next_ask() for _ in range(5)]
        assert [ask.get("resourceVersion") for ask in asks] == [None, "7", "12", "12", "12"]
        api.events.put_nowait({"type": "ADDED", "object": pod("b", 13)})
        assert await names(published) == ["a", "b"]


async def test_a_server_that_has_forgotten_is_asked_for_the_list_again() -> None:
    api = FakeApi(pods=[pod("a", 1)], version=7)
    async with discovering(api) as published:
        assert await names(published) == ["a"]
        api.pods, api.version = [pod("b", 90)], 99
        gone = {"kind": "Status", "code": 410, "message": "too old resource version", "reason": "Expired"}
        api.events.put_nowait({"type": "ERROR", "object": gone})
        assert await names(published) == ["b"]
        asks = [await api.next_ask() for _ in range(4)]
        assert [ask.get("resourceVersion") for ask in asks] == [None, "7", None, "99"]


async def test_a_server_that_fails_at_first_is_asked_again() -> None:
    api = FakeApi(pods=[pod("a", 1)], broken=3)
    async with discovering(api) as published:
        assert await names(published) == ["a"]


async def test_stopping_does_not_wait_for_the_server() -> None:
    api = FakeApi()
    async with discovering(api) as published:
        await names(published)
        await api.next_ask()
        await api.next_ask()
