"""Sending events to a client that is slow, or gone."""

import asyncio
from typing import cast

import pytest
from aiohttp import web

from tandem_worker.server import sse


class StuckClient:
    """Stands for the request and the response of a client whose socket takes nothing more."""

    def __init__(self) -> None:
        self.is_aborted = False
        self.transport = self

    def abort(self) -> None:
        self.is_aborted = True

    async def write(self, _data: bytes) -> None:
        await asyncio.Event().wait()


async def test_a_client_that_stops_reading_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "WRITE_SECONDS", 0.01)
    client = StuckClient()
    events = sse.EventStream(cast(web.Request, client), cast(web.StreamResponse, client))
    with pytest.raises(ConnectionError, match="stopped reading"):
        await events.send({"a": 1})
    assert client.is_aborted


def test_events_are_compact_and_keep_their_letters() -> None:
    assert sse.compact({"a": "é😀\n", "b": [1, None]}) == '{"a":"é😀\\n","b":[1,null]}'
