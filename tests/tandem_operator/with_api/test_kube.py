"""The API calls as they go over the wire."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tandem_operator import kube as kube_module
from tandem_operator.cluster_config import Cluster
from tandem_operator.kube import POOLS, SERVICES, ApiError, Kube, connect

CONFIG_MAP: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "a", "namespace": "default"},
}


async def test_what_is_applied_can_be_read_listed_and_deleted(kube: Kube) -> None:
    made = await kube.apply({**CONFIG_MAP, "metadata": {**CONFIG_MAP["metadata"], "labels": {"x": "1"}}})
    kind = ("v1", "ConfigMap")
    assert (await kube.get(kind, "default", "a")) == made
    assert [item["metadata"]["name"] for item in await kube.list(kind, "default", {"x": "1"})] == ["a"]
    assert await kube.list(kind, "default", {"x": "2"}) == []
    assert await kube.list(kind, None) == [made]
    await kube.delete(made)
    assert await kube.get(kind, "default", "a") is None


async def test_a_dry_run_changes_nothing(kube: Kube) -> None:
    await kube.apply(CONFIG_MAP, dry_run=True)
    assert await kube.get(("v1", "ConfigMap"), "default", "a") is None


async def test_deleting_what_is_gone_or_is_another_object_is_no_error(kube: Kube) -> None:
    made = await kube.apply(CONFIG_MAP)
    await kube.delete({**made, "metadata": {**made["metadata"], "uid": "an earlier one"}})
    assert await kube.get(("v1", "ConfigMap"), "default", "a") is not None
    await kube.delete(made)
    await kube.delete(made)


async def test_the_api_servers_words_reach_the_caller(kube: Kube, api: Any) -> None:
    api.refuse = lambda _: "spec.x: must be positive"
    with pytest.raises(ApiError, match="must be positive") as refusal:
        await kube.apply(CONFIG_MAP)
    assert (refusal.value.status, refusal.value.refused) == (422, True)


@pytest.mark.parametrize(
    ("status", "refused"), [(409, False), (429, False), (500, False), (503, False), (403, True)]
)
async def test_only_errors_that_will_come_again_are_refusals(
    kube: Kube, api: Any, status: int, refused: bool
) -> None:
    api.failing = status
    with pytest.raises(ApiError) as error:
        await kube.get(SERVICES, "default", "a")
    assert error.value.refused is refused


@pytest.mark.parametrize(
    ("status", "body", "gone"),
    [
        (404, {"reason": "NotFound"}, True),
        (403, {"reason": "Forbidden", "details": {"causes": [{"reason": "NamespaceTerminating"}]}}, True),
        (403, {"reason": "Forbidden"}, False),
    ],
)
async def test_what_is_going_is_told_from_what_is_forbidden(
    raw: "Raw", status: int, body: dict[str, Any], gone: bool
) -> None:
    kube, _, answers = raw
    answers.append(web.json_response(body, status=status))
    with pytest.raises(ApiError) as error:
        await kube.apply(CONFIG_MAP)
    assert (error.value.gone, error.value.refused) == (gone, not gone)


@pytest.fixture
async def raw() -> AsyncIterator[tuple[Kube, list[web.Request], list[web.StreamResponse]]]:
    """A server that answers what a test puts into the list, or never."""
    seen: list[web.Request] = []
    answers: list[web.StreamResponse] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        await request.read()
        seen.append(request)
        if not answers:
            await asyncio.sleep(30)
        return answers.pop(0)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handle)
    async with TestServer(application) as server:
        url = str(server.make_url("")).rstrip("/")
        async with connect(Cluster(url, tls=False, headers=lambda: {"authorization": "Bearer t"})) as found:
            yield found, seen, answers


Raw = tuple[Kube, list[web.Request], list[web.StreamResponse]]


async def test_apply_is_server_side_and_forced_and_authorised(raw: Raw) -> None:
    kube, seen, answers = raw
    answers.append(web.json_response({}))
    await kube.apply(CONFIG_MAP)
    request = seen[0]
    assert (request.method, request.path) == ("PATCH", "/api/v1/namespaces/default/configmaps/a")
    assert dict(request.query) == {"fieldManager": "tandem-operator", "force": "true"}
    assert request.headers["content-type"] == "application/apply-patch+yaml"
    assert request.headers["authorization"] == "Bearer t"


async def test_long_lists_come_in_pages(raw: Raw) -> None:
    kube, seen, answers = raw
    first = {"items": [{"metadata": {"name": "a"}}], "metadata": {"continue": "next"}}
    answers += [
        web.json_response(first),
        web.json_response({"items": [{"metadata": {"name": "b"}}], "metadata": {}}),
    ]
    found = await kube.list(POOLS, None)
    assert [(item["kind"], item["metadata"]["name"]) for item in found] == [
        ("WorkerPool", "a"),
        ("WorkerPool", "b"),
    ]
    assert seen[1].query["continue"] == "next"


async def test_an_answer_that_is_no_json_is_an_api_error(raw: Raw) -> None:
    kube, _, answers = raw
    answers.append(web.Response(status=502, text="<html>bad gateway"))
    with pytest.raises(ApiError, match="bad gateway"):
        await kube.get(SERVICES, "default", "a")


async def test_a_server_that_never_answers_is_given_up(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    kube, _, _ = raw
    monkeypatch.setattr(kube._session, "_timeout", aiohttp.ClientTimeout(total=0.05))
    with pytest.raises(TimeoutError):
        await kube.get(SERVICES, "default", "a")
    assert kube_module.TIMEOUT.total is not None
