"""A prefill leg that is slow is sent to a second worker too; who answers first wins."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable

from tandem_router.engines.base import Pairing
from tandem_router.legs import LegFailedError
from tandem_router.moves import Event, Prefilled
from tandem_router.types import Endpoint

Ask = Callable[[Pairing], Coroutine[None, None, Event]]
Drop = Callable[[Pairing, Prefilled], None]


async def hedged(
    ask: Ask, first: Pairing, second: Callable[[], Pairing | None], delay: float, drop: Drop
) -> tuple[Pairing, Event]:
    """The hand-over that was answered, and its event. Raises what the last of both raises, if both fail.

    The other one's connection closes; if it has been answered as well, `drop` gets its KV to give back.
    """
    legs = {asyncio.ensure_future(ask(first)): first}
    try:
        await asyncio.wait(legs, timeout=delay)
        if not any(leg.done() for leg in legs) and (other := second()) is not None:
            legs[asyncio.ensure_future(ask(other))] = other
        while True:
            done, _ = await asyncio.wait(legs, return_when=asyncio.FIRST_COMPLETED)
            leg = next((leg for leg in done if leg.exception() is None), None) or done.pop()
            pairing = legs.pop(leg)
            if not legs or not isinstance(leg.exception(), LegFailedError):
                return pairing, leg.result()
    finally:
        for leg, pairing in legs.items():
            _end(leg, pairing, drop)


def _end(leg: asyncio.Future[Event], pairing: Pairing, drop: Drop) -> None:
    if not leg.done():
        leg.cancel()
    elif leg.exception() is None and isinstance(event := leg.result(), Prefilled):
        drop(pairing, event)


def peers_of(prefill: Endpoint, workers: Iterable[Endpoint], ejected: frozenset[str]) -> list[Endpoint]:
    """The other workers that can make the same hand-over."""
    same = (prefill.role, prefill.model, prefill.engine, prefill.revision)
    return [
        worker
        for worker in workers
        if worker.ready
        and worker.name != prefill.name
        and worker.name not in ejected
        and (worker.role, worker.model, worker.engine, worker.revision) == same
    ]
