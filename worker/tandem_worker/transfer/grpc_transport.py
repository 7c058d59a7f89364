"""KV over gRPC streaming: works wherever the workers reach each other over TCP."""

import logging
from collections.abc import AsyncIterator

import grpc

from tandem_wire import kv_pb2, kv_pb2_grpc
from tandem_worker.kv import KvLayout
from tandem_worker.lease import EndReason
from tandem_worker.transfer.base import KvBlocks, RemoteKv, TransferError, TransferFailure
from tandem_worker.transfer.channels import Channels
from tandem_worker.transfer.chunks import max_message_bytes, pack_layout, unpack_chunk

logger = logging.getLogger(__name__)

PULL_SECONDS = 20.0
RELEASE_SECONDS = 5.0

BY_STATUS = {
    grpc.StatusCode.UNAVAILABLE: TransferFailure.UNREACHABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: TransferFailure.TIMEOUT,
    grpc.StatusCode.NOT_FOUND: TransferFailure.UNKNOWN_HANDLE,
}


class GrpcTransport:
    """The `KvTransport` over the service of `tandem_wire/kv.proto`."""

    def __init__(self, layout: KvLayout, pull_seconds: float = PULL_SECONDS) -> None:
        self._channels = Channels(max_message_bytes(layout))
        self._pull_seconds = pull_seconds

    async def pull(
        self, source: RemoteKv, layout: KvLayout, first_block: int, num_blocks: int
    ) -> AsyncIterator[KvBlocks]:
        request = kv_pb2.PullRequest(
            handle=source.handle,
            first_block=first_block,
            layout=pack_layout(layout),
            engine_id=source.engine_id,
            num_tokens=source.num_tokens,
            prompt_digest=source.digest,
        )
        end = first_block + num_blocks
        async with self._channels.use(source.address) as channel:
            call = kv_pb2_grpc.WorkerStub(channel).Pull(request, timeout=self._pull_seconds)
            try:
                async for chunk in call:
                    blocks = unpack_chunk(chunk, layout, first_block, end - first_block)
                    first_block += blocks.num_blocks
                    yield blocks
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNAVAILABLE:
                    self._channels.drop(source.address)
                raise _transfer_error(error) from error
            finally:
                call.cancel()
        if first_block != end:
            raise TransferError(
                TransferFailure.CORRUPT, f"the transfer ended {end - first_block} blocks early"
            )

    async def release(self, source: RemoteKv, reason: EndReason) -> bool:
        request = kv_pb2.ReleaseRequest(handle=source.handle, reason=reason)
        try:
            async with self._channels.use(source.address) as channel:
                stub = kv_pb2_grpc.WorkerStub(channel)
                reply: kv_pb2.ReleaseReply = await stub.Release(request, timeout=RELEASE_SECONDS)
        except grpc.aio.AioRpcError as error:
            logger.warning("handle %s stays until its lease ends: %s", source.handle, error.details())
            return False
        return reply.released

    async def close(self) -> None:
        await self._channels.close()


def _transfer_error(error: grpc.aio.AioRpcError) -> TransferError:
    """The service puts the reason of a refusal before its words: `wrong_engine: ...`."""
    details = error.details() or error.code().name
    word, _, rest = details.partition(": ")
    if word in set(TransferFailure):
        return TransferError(TransferFailure(word), rest)
    return TransferError(BY_STATUS.get(error.code(), TransferFailure.FAILED), details)
