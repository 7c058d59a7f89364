"""Everything that watches the workers for the policies: their reports and their KV events."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tandem_router.engines.base import Probe
from tandem_router.http.upstream import Upstreams
from tandem_router.kv_index import KvIndex
from tandem_router.legs import ask_peer
from tandem_router.openai import ParsedRequest
from tandem_router.reports.watcher import ReportWatcher
from tandem_router.types import Endpoint
from tandem_router.views import Views
from tandem_wire.router_settings import KvEvents, Scheduling

if TYPE_CHECKING:
    from tandem_router.kv_events.follower import KvFollower
    from tandem_router.kv_events.prompts import PromptTokens

SCRAPE_SECONDS = 2.0


class Watchers:
    """Fills `views`; calls `told` after each report. `knows`: whether a worker serves at a host and port."""

    def __init__(
        self,
        settings: Scheduling,
        views: Views,
        knows: Callable[[str, int], bool],
        told: Callable[[], None] = lambda: None,
    ) -> None:
        clock = asyncio.get_running_loop().time
        # Not the requests' connections: a dead one should be noticed by a request, not by a report.
        self._upstreams = upstreams = Upstreams(knows)

        async def scrape(endpoint: Endpoint) -> bytes:
            deadline = clock() + SCRAPE_SECONDS
            return await ask_peer(upstreams, endpoint, Probe(endpoint.port, "/metrics"), deadline)

        views.clock = clock
        self._reports = ReportWatcher(views.reports, scrape, clock, told)
        self._follower: KvFollower | None = None
        self._prompts: PromptTokens | None = None
        if settings.kv_events is not None:
            views.index = KvIndex()
            self._follower, self._prompts = _exact(settings.kv_events, views.index)

    @property
    def exact(self) -> bool:
        """Whether caches are matched exactly."""
        return self._prompts is not None

    async def located(self, parsed: ParsedRequest) -> ParsedRequest:
        """The request with what the caches are asked by, if they are matched exactly."""
        if self._prompts is None:
            return parsed
        token_ids = await self._prompts.of(parsed.api, parsed.body)
        if not token_ids:
            return parsed
        salt = parsed.body.get("cache_salt")
        info = replace(
            parsed.info,
            prompt_tokens=len(token_ids),
            prompt_bytes=0,
            token_ids=token_ids,
            salt=salt if isinstance(salt, str) else "",
        )
        return replace(parsed, info=info)

    def know(self, endpoints: Iterable[Endpoint]) -> None:
        """These are the workers now."""
        everyone = list(endpoints)
        self._reports.know(everyone)
        if self._follower is not None:
            self._follower.know(everyone)

    async def close(self) -> None:
        await self._reports.close()
        await self._upstreams.close()
        if self._follower is not None:
            await self._follower.close()


def _exact(settings: KvEvents, index: KvIndex) -> tuple["KvFollower", "PromptTokens"]:
    # Only who matches exactly pays for these libraries.
    from tandem_router.kv_events.follower import KvFollower
    from tandem_router.kv_events.prompts import PromptTokens, load_prompt_tokens

    prompts = PromptTokens() if settings.tokenizer is None else load_prompt_tokens(Path(settings.tokenizer))
    return KvFollower(settings, index), prompts
