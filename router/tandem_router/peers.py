"""What is known of the present run of each prefill engine: asked for once, or told by its answers."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from tandem_router.engines.base import Engine, Probe
from tandem_router.types import Endpoint

Found = Mapping[str, Any]
Ask = Callable[[Endpoint, Probe], Awaitable[bytes]]
"""Sends a probe; gives the body of a 200. Raises OSError."""


class UnknownPeerError(Exception):
    """The prefill worker does not say what its partner has to know."""


class Peers:
    """Findings by worker. They end with the worker's run: when it fails, or is not there or not ready."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._found: dict[Endpoint, Found] = {}
        self._asking: dict[Endpoint, asyncio.Task[Found]] = {}

    def get(self, prefill: Endpoint) -> Found | None:
        return self._found.get(prefill)

    async def find(self, prefill: Endpoint, engine: Engine) -> Found | None:
        """What there is to know, asked for if need be; None for engines that need not be asked.

        Requests that ask at the same time wait for one answer. Raises UnknownPeerError.
        """
        probe = engine.probe(prefill)
        known = self._found.get(prefill)
        if probe is None or known is not None:
            return known
        task = self._asking.get(prefill)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._probe(prefill, engine, probe))
            self._asking[prefill] = task
            task.add_done_callback(lambda _: self._asking.pop(prefill, None))
        return await asyncio.shield(task)

    def learn(self, prefill: Endpoint, engine: Engine, answer: Any) -> None:
        """Takes in what a prefill leg's answer tells."""
        found = engine.learn(answer) if engine.probe(prefill) is None else None
        if found is not None:
            self._found[prefill] = found

    def forget(self, prefill: Endpoint) -> None:
        """Its run may be over: it is asked again before its next hand-over."""
        self._found.pop(prefill, None)

    def keep(self, endpoints: Iterable[Endpoint]) -> None:
        """Forgets all but those that are ready."""
        ready = {endpoint for endpoint in endpoints if endpoint.ready}
        self._found = {endpoint: found for endpoint, found in self._found.items() if endpoint in ready}

    async def close(self) -> None:
        for task in list(self._asking.values()):
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)

    async def _probe(self, prefill: Endpoint, engine: Engine, probe: Probe) -> Found:
        try:
            found = engine.learn(json.loads(await self._ask(prefill, probe)))
        except (OSError, ValueError) as error:
            raise UnknownPeerError(f"{prefill.name}: {error}") from error
        if found is None:
            raise UnknownPeerError(f"{prefill.name}: its answer says nothing of use")
        self._found[prefill] = found
        return found
