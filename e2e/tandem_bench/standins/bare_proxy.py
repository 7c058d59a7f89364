"""A plain P/D proxy as one would write it first: aiohttp on uvloop, vLLM's two legs, round robin, no more.

python bare_proxy.py PORT PREFILL_PORT PREFILL_PORT DECODE_PORT DECODE_PORT
"""

import asyncio
import itertools
import json
import sys
import uuid

import aiohttp
import uvloop
from aiohttp import web

HOST = "127.0.0.1"
ASK = {"do_remote_decode": True, "do_remote_prefill": False}


class Proxy:
    def __init__(self, session: aiohttp.ClientSession, prefills: list[int], decodes: list[int]) -> None:
        self._session = session
        self._prefills = itertools.cycle(prefills)
        self._decodes = itertools.cycle(decodes)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        headers = {"x-request-id": uuid.uuid4().hex}
        ask = body | {"max_tokens": 1, "stream": False, "kv_transfer_params": ASK}
        url = f"http://{HOST}:{next(self._prefills)}{request.path}"
        async with self._session.post(url, json=ask, headers=headers) as answer:
            body["kv_transfer_params"] = (await answer.json())["kv_transfer_params"]
        url = f"http://{HOST}:{next(self._decodes)}{request.path}"
        async with self._session.post(url, json=body, headers=headers) as answer:
            if not body.get("stream"):
                return web.Response(body=await answer.read(), content_type="application/json")
            return await self._stream(request, answer)

    async def _stream(self, request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": answer.headers["content-type"]})
        await response.prepare(request)
        async for data in answer.content.iter_any():
            await response.write(data)
        await response.write_eof()
        return response


async def main(port: int, prefills: list[int], decodes: list[int]) -> None:
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/v1/{kind:.*}", Proxy(session, prefills, decodes).handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, HOST, port, backlog=2048).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    numbers = list(map(int, sys.argv[1:]))
    half = (len(numbers) - 1) // 2 + 1
    uvloop.run(main(numbers[0], numbers[1:half], numbers[half:]))
