"""The least that a relay can do: bytes copied between a client and an engine, on asyncio.Protocol and uvloop.

    python raw_relay.py PORT ENGINE_PORT...

Each client connection gets an engine connection of its own. No parsing, no choice by load, no second leg: the
floor that a router is compared with.
"""

import asyncio
import itertools
import socket
import sys
from typing import cast

import uvloop

HOST = "127.0.0.1"


class Relay(asyncio.Protocol):
    """One side of a connection; `other` is where its bytes go."""

    other: "Relay | None" = None
    transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, _exc: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class Client(Relay):
    """The client's side: connects to the next engine, and keeps what comes before that is done."""

    def __init__(self, ports: "itertools.cycle[int]") -> None:
        self._ports = ports
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connecting = asyncio.ensure_future(self._connect())

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self._early.append(data)
        else:
            super().data_received(data)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        _, engine = await loop.create_connection(Relay, HOST, next(self._ports))
        self.other, engine.other = engine, self
        self.data_received(b"".join(self._early))


async def main(port: int, engines: list[int]) -> None:
    ports = itertools.cycle(engines)
    server = await asyncio.get_running_loop().create_server(lambda: Client(ports), HOST, port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), list(map(int, sys.argv[2:]))))
