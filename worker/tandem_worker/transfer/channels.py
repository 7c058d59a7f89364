"""gRPC channels to other workers, kept open for the next hand-over."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc

MAX_IDLE_CHANNELS = 32
OPTIONS = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.min_reconnect_backoff_ms", 5_000),  # also the time to connect in
)


@dataclass(slots=True)
class Peer:
    channel: grpc.aio.Channel
    num_users: int = 0


class Channels:
    """One channel for each address, the idle ones longest unused closed first."""

    def __init__(self, max_message_bytes: int) -> None:
        self._options = (*OPTIONS, ("grpc.max_receive_message_length", max_message_bytes))
        self._peers: OrderedDict[str, Peer] = OrderedDict()

    @asynccontextmanager
    async def use(self, address: str) -> AsyncIterator[grpc.aio.Channel]:
        peer = self._peers.get(address)
        if peer is None:
            self._peers[address] = peer = Peer(grpc.aio.insecure_channel(address, self._options))
        self._peers.move_to_end(address)
        peer.num_users += 1
        try:
            yield peer.channel
        finally:
            peer.num_users -= 1
            if peer.num_users == 0:
                await self._close_unneeded(address, peer)

    def drop(self, address: str) -> None:
        """Forgets a channel that failed, so that the next use connects again at once."""
        self._peers.pop(address, None)

    async def close(self) -> None:
        peers, self._peers = self._peers, OrderedDict()
        await asyncio.gather(*(peer.channel.close() for peer in peers.values()))

    async def _close_unneeded(self, address: str, peer: Peer) -> None:
        """A channel is closed only without users: closing would look like a cancellation to them."""
        if self._peers.get(address) is not peer:
            await peer.channel.close()
        idle = [address for address, peer in self._peers.items() if peer.num_users == 0]
        for oldest in idle[: max(0, len(idle) - MAX_IDLE_CHANNELS)]:
            await self._peers.pop(oldest).channel.close()
