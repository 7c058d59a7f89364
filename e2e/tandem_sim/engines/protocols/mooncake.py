"""vLLM's MooncakeConnector: the decode worker asks the bootstrap server who has the KV, and waits there.

A data parallel rank only knows its own transfers. A transfer id that the other side never uses waits.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import aiohttp
from aiohttp import web

from tandem_sim.engines.protocols.base import Ask, HandOver, LegName, LoadFailedError, RefusedError, params_of

FETCH = "/sim/fetch"
_RANK_HEADER = "x-data-parallel-rank"
_NEEDED = ("transfer_id", "remote_engine_id", "remote_bootstrap_addr")


class Mooncake(HandOver):
    def leg(self, ask: Ask) -> LegName:
        params = params_of(ask.body)
        if params.get("do_remote_decode"):
            if not ask.headers.get(_RANK_HEADER, "0").isdigit() or self._rank(ask) >= self._ranks:
                raise RefusedError("data_parallel_rank is out of range")
            return "prefill"
        return "decode" if params.get("do_remote_prefill") else "whole"

    async def keep(self, ask: Ask, seconds: float) -> Mapping[str, Any]:
        """Without a transfer id nobody could ask for the KV, so none is kept."""
        transfer_id = params_of(ask.body).get("transfer_id")
        if transfer_id:
            self.site.kv.grant(_handle(self._rank(ask), transfer_id), ask.digest, seconds)
        return {}

    async def load(self, ask: Ask) -> str | None:
        params = params_of(ask.body)
        if any(not params.get(key) for key in _NEEDED):
            return ask.digest  # vLLM warns and computes the prompt itself.
        ranks = await self._query(params["remote_bootstrap_addr"])
        for rank, entry in ranks.items():
            if entry["engine_id"] == params["remote_engine_id"]:
                url = f"{entry['worker_addr']['0']['0']}{FETCH}"
                asked = {"handle": _handle(int(rank), params["transfer_id"])}
                digest: str = (await self.call(url, asked, self.site.settings.wait_seconds))["digest"]
                return digest
        raise LoadFailedError("the bootstrap server does not know this engine id")

    def routes(self) -> Iterable[web.RouteDef]:
        return (web.post(FETCH, self._fetch),)

    def bootstrap_routes(self) -> Iterable[web.RouteDef]:
        return (web.get("/query", self._ranks_known),)

    @property
    def _ranks(self) -> int:
        return self.site.settings.ranks

    def _rank(self, ask: Ask) -> int:
        return int(ask.headers.get(_RANK_HEADER, "0"))

    async def _query(self, address: str) -> Mapping[str, Any]:
        try:
            async with self.site.session.get(f"{address}/query") as response:
                found: Mapping[str, Any] = await response.json()
                return found
        except aiohttp.ClientError as error:
            raise LoadFailedError(address) from error

    async def _ranks_known(self, _request: web.Request) -> web.Response:
        address = f"http://{self.site.settings.host}:{self.site.port}"
        engine_id = self.site.kv.engine_id
        known = {
            str(rank): {"engine_id": f"{engine_id}_dp{rank}", "worker_addr": {"0": {"0": address}}}
            for rank in range(self._ranks)
        }
        return web.json_response(known)

    async def _fetch(self, request: web.Request) -> web.Response:
        asked = await request.json()
        return web.json_response({"digest": await self.site.kv.fetch(asked["handle"])})


def _handle(rank: int, transfer_id: str) -> str:
    return f"{rank}/{transfer_id}"
