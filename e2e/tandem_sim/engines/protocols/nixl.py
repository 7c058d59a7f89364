"""vLLM's NixlConnector: the decode worker reads the blocks named in the prefill answer.

Nothing checks what they hold by then: KV past its lease gives a 200 with wrong tokens, as measured.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from aiohttp import web

from tandem_sim.engines.kv import KvGoneError, WrongEngineError
from tandem_sim.engines.protocols.base import WRONG_ENGINE, Ask, HandOver, LegName, LoadFailedError, params_of

PULL = "/sim/pull"
_NEEDED = ("remote_engine_id", "remote_request_id", "remote_host", "remote_port", "remote_block_ids")


class Nixl(HandOver):
    keeps_stopped = True

    def leg(self, ask: Ask) -> LegName:
        params = params_of(ask.body)
        if params.get("do_remote_decode"):
            return "prefill"
        return "decode" if params.get("do_remote_prefill") else "whole"

    async def keep(self, ask: Ask, seconds: float) -> Mapping[str, Any]:
        """The handle is the request's id, so ids that repeat are found out."""
        self.site.kv.grant(ask.request_id, ask.digest, seconds)
        return {"kv_transfer_params": self.params(ask)}

    def params(self, ask: Ask) -> dict[str, Any]:
        return {
            "do_remote_prefill": True,
            "do_remote_decode": False,
            "remote_block_ids": [[540, 541, 2**60 + 1]],
            "remote_engine_id": self.site.kv.engine_id,
            "remote_request_id": ask.request_id,
            "remote_host": self.site.settings.host,
            "remote_port": self.site.port,
            "tp_size": 1,
            "remote_num_tokens": len(ask.ids),
            "remote_blocks_expiry_time": None,
            "transfer_mode": "pull",
        }

    async def load(self, ask: Ask) -> str | None:
        params = params_of(ask.body)
        if any(params.get(key) is None for key in _NEEDED):
            raise LoadFailedError("params are missing")
        url = f"http://{params['remote_host']}:{params['remote_port']}{PULL}"
        asked = {"handle": params["remote_request_id"], "engine_id": params["remote_engine_id"]}
        digest: str | None = (await self.call(url, asked))["digest"]
        return digest

    def routes(self) -> Iterable[web.RouteDef]:
        return (web.post(PULL, self._pull),)

    async def _pull(self, request: web.Request) -> web.Response:
        """The side channel: a partner of another run is refused, freed KV is just not there."""
        asked = await request.json()
        kv = self.site.kv
        try:
            digest: str | None = kv.look(asked["handle"], asked["engine_id"])
            kv.end(asked["handle"], pulled=True)
        except WrongEngineError:
            return web.Response(status=WRONG_ENGINE)
        except KvGoneError:
            digest = None
        return web.json_response({"digest": digest})
