"""SGLang: both legs name a room of the prefill worker's bootstrap server, and each waits for the other.

The prefill leg is answered once its KV has been taken. A worker that runs disaggregated takes no request
without a room.
"""

import asyncio
import math
from collections.abc import Iterable, Mapping
from typing import Any

from aiohttp import web

from tandem_sim.engines.protocols.base import Ask, HandOver, LegName, LoadFailedError, RefusedError

ROOMS = "/sim/rooms"


class Sglang(HandOver):
    keeps_stopped = True

    def leg(self, ask: Ask) -> LegName:
        role = self.site.settings.role
        if role == "mixed":
            return "whole"
        room = ask.body.get("bootstrap_room")
        if not (_is_list_of(room, ask.sequences) if ask.sequences > 1 else isinstance(room, int)):
            raise RefusedError("Disaggregated request received without bootstrap room id.")
        return role

    async def keep(self, ask: Ask, seconds: float) -> Mapping[str, Any]:
        kv, room = self.site.kv, str(ask.body["bootstrap_room"])
        kv.grant(room, ask.digest, seconds if seconds <= 0 else math.inf)
        try:
            async with asyncio.timeout(self.site.settings.wait_seconds):
                await kv.ended(room)
        except TimeoutError as error:
            raise LoadFailedError(f"nobody came to room {room}") from error
        finally:
            kv.end(room, pulled=False)
        return {}

    async def load(self, ask: Ask) -> str | None:
        body = ask.body
        host, port = (_first(body[f"bootstrap_{key}"]) for key in ("host", "port"))
        url = f"http://{host}:{port}{ROOMS}"
        asked = {"room": str(body["bootstrap_room"])}
        digest: str = (await self.call(url, asked, self.site.settings.wait_seconds))["digest"]
        return digest

    def bootstrap_routes(self) -> Iterable[web.RouteDef]:
        return (web.post(ROOMS, self._room),)

    async def _room(self, request: web.Request) -> web.Response:
        asked = await request.json()
        return web.json_response({"digest": await self.site.kv.fetch(asked["room"])})


def _is_list_of(rooms: Any, count: int) -> bool:
    return isinstance(rooms, list) and len(set(rooms)) == count and all(isinstance(r, int) for r in rooms)


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) else value
