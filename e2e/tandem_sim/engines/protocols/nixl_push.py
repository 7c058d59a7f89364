"""vLLM's NixlPushConnector: the decode worker registers, the prefill worker writes once it has the KV.

They match by transfer id, else by the request's id. A registration that matches nothing waits.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from aiohttp import web

from tandem_sim.engines.protocols.base import WRONG_ENGINE, Ask, LoadFailedError, params_of
from tandem_sim.engines.protocols.nixl import Nixl

REGISTER = "/sim/register"
_NEEDED = ("remote_engine_id", "remote_host", "remote_port", "tp_size", "remote_request_id")


class NixlPush(Nixl):
    async def keep(self, ask: Ask, seconds: float) -> Mapping[str, Any]:
        self.site.kv.grant(_key(ask), ask.digest, seconds)
        return {"kv_transfer_params": {**self.params(ask), "transfer_mode": "push"}}

    async def load(self, ask: Ask) -> str | None:
        params = params_of(ask.body)
        if any(params.get(key) is None for key in _NEEDED):
            raise LoadFailedError("params are missing")
        url = f"http://{params['remote_host']}:{params['remote_port']}{REGISTER}"
        asked = {"key": _key(ask), "engine_id": params["remote_engine_id"]}
        digest: str = (await self.call(url, asked, self.site.settings.wait_seconds))["digest"]
        return digest

    def routes(self) -> Iterable[web.RouteDef]:
        return (web.post(REGISTER, self._register),)

    async def _register(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if asked["engine_id"] != self.site.kv.engine_id:
            return web.Response(status=WRONG_ENGINE)
        return web.json_response({"digest": await self.site.kv.fetch(asked["key"])})


def _key(ask: Ask) -> str:
    return str(params_of(ask.body).get("transfer_id") or ask.request_id)
