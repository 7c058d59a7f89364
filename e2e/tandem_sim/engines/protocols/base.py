"""The seam to hand-over protocols: what an engine accepts, keeps for its partner, and fetches from it."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp
from aiohttp import web

from tandem_sim.engines.kv import KvStore
from tandem_sim.engines.settings import Settings

CALL_SECONDS = 2.0
"""For calls that a living partner answers at once."""
WRONG_ENGINE = 409


class LoadFailedError(Exception):
    """The KV cannot be had, and the engine knows."""


class RefusedError(Exception):
    """The engine calls the request wrong: a 400."""


@dataclass(slots=True)
class Site:
    """One engine as its protocol sees it; ports are known once they are bound."""

    settings: Settings
    session: aiohttp.ClientSession
    kv: KvStore
    port: int = 0
    bootstrap_port: int = 0
    kv_port: int = 0


@dataclass(frozen=True, slots=True)
class Ask:
    """One generation request; header names in lower case."""

    body: Mapping[str, Any]
    headers: Mapping[str, str]
    request_id: str
    ids: list[int]
    digest: str
    chat: bool
    sequences: int = 1


LegName = Literal["prefill", "decode", "whole"]


class HandOver(ABC):
    """One protocol. `error_in_stream`: a failed load of a stream is a 200 whose first event is an error.

    `keeps_stopped`: KV is kept also where the prefill leg did not end by its limit of tokens.
    """

    error_in_stream = True
    keeps_stopped = False
    load_failed_status = 500
    load_failed_code: str | int = 500

    def __init__(self, site: Site) -> None:
        self.site = site

    @abstractmethod
    def leg(self, ask: Ask) -> LegName:
        """Which leg this is. Raises RefusedError for what the real engine calls wrong."""

    @abstractmethod
    async def keep(self, ask: Ask, seconds: float) -> Mapping[str, Any]:
        """Leases the prompt's KV, and adds to the prefill leg's answer. Raises LoadFailedError."""

    @abstractmethod
    async def load(self, ask: Ask) -> str | None:
        """The digest of the KV that came; None: whatever freed blocks hold. Raises LoadFailedError."""

    def routes(self) -> Iterable[web.RouteDef]:
        """What the engine also serves on its HTTP port."""
        return ()

    def bootstrap_routes(self) -> Iterable[web.RouteDef]:
        """What it serves on its bootstrap port."""
        return ()

    async def call(self, url: str, asked: Mapping[str, Any], seconds: float = CALL_SECONDS) -> Any:
        """Asks a partner. Raises LoadFailedError."""
        try:
            async with (
                asyncio.timeout(seconds),
                self.site.session.post(url, json=asked) as response,
            ):
                if response.status != 200:
                    raise LoadFailedError(f"{url} answered {response.status}")
                return await response.json()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise LoadFailedError(url) from error


def params_of(body: Mapping[str, Any]) -> Mapping[str, Any]:
    return body.get("kv_transfer_params") or {}
