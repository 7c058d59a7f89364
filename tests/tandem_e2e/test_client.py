"""Every way in which an answer can be wrong is told."""

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tandem_e2e.client import Answer, ask, chat, completion

WHOLE = (
    'data: {"choices": [{"delta": {"role": "assistant", "content": ""}}]}\n\n'
    'data: {"choices": [{"delta": {"content": "84"}}]}\n\n'
    'data: {"choices": [{"delta": {"content": "43"}, "finish_reason": "stop"}]}\n\n'
    'data: {"choices": [], "usage": {}}\n\n'
    "data: [DONE]\n\n"
)


async def served(text: str, status: int = 200) -> Answer:
    """The answer to a streamed chat that is served `text`."""

    async def handler(request: web.Request) -> web.Response:
        assert (await request.json())["stream"] is True
        return web.Response(text=text, status=status, headers={"x-tandem-decode": "pod-1"})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", handler)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        return await ask(session, str(server.make_url("")).rstrip("/"), chat("port?"))


async def test_a_whole_stream_is_joined() -> None:
    answer = await served(WHOLE)
    assert (answer.error, answer.text, answer.headers["x-tandem-decode"]) == (None, "8443", "pod-1")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (WHOLE.replace("data: [DONE]\n\n", ""), "broke off"),
        (WHOLE.replace('"finish_reason": "stop"', '"finish_reason": null'), "broke off"),
        ('data: {"error": {"message": "worker lost"}}\n\n', "worker lost"),
        ("data: {broken\n\n", "JSONDecodeError"),
    ],
)
async def test_a_stream_that_is_not_whole_is_a_failure(text: str, told: str) -> None:
    assert told in ((await served(text)).error or "")


async def test_a_refusal_is_a_failure() -> None:
    answer = await served("no worker", status=503)
    assert answer.status == 503
    assert answer.error == "HTTP 503: no worker"


async def test_nobody_there_is_a_failure() -> None:
    async with aiohttp.ClientSession() as session:
        answer = await ask(session, "http://127.0.0.1:1", completion("x"))
    assert "ClientConnectorError" in (answer.error or "")
