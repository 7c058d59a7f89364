"""The gRPC service of `tandem_wire/kv.proto`: what other workers, the router and the operator ask for."""

import time
from collections.abc import AsyncIterator, Callable
from typing import NoReturn, TypeVar
from uuid import uuid4

import grpc

from tandem_wire import kv_pb2, kv_pb2_grpc
from tandem_worker.async_engine import EngineDeadError
from tandem_worker.engine import Engine
from tandem_worker.errors import UnknownRequestError
from tandem_worker.kv_watch import WIRE_ROLES, watch_kv_events, watch_load
from tandem_worker.lease import EndReason
from tandem_worker.lease_keeper import HeldPrompt, ReservedRoom
from tandem_worker.settings import Role
from tandem_worker.transfer.base import TransferFailure
from tandem_worker.transfer.chunks import chunk_ranges, pack_chunk, pack_layout, unpack_layout
from tandem_worker.worker import Worker

PROTOCOL_VERSION = 1
MAX_TTL_SECONDS = 600.0
RELEASE_REASONS = {
    reason.value: reason for reason in (EndReason.PULLED, EndReason.CANCELLED, EndReason.FAILED)
}
ROLES = {number: role for role, number in WIRE_ROLES.items()}

Context = grpc.aio.ServicerContext[object, object]

T = TypeVar("T")


class KvService(kv_pb2_grpc.WorkerServicer):
    """Every refusal is a gRPC status with one line that says why."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def Describe(self, request: kv_pb2.DescribeRequest, context: Context) -> kv_pb2.Description:
        worker = self._worker
        return kv_pb2.Description(
            protocol_version=PROTOCOL_VERSION,
            engine_id=worker.engine_id,
            model=worker.settings.model_name,
            revision=worker.settings.revision,
            role=WIRE_ROLES[worker.role],
            layout=pack_layout(worker.layout),
            num_blocks=worker.num_blocks,
        )

    async def Reserve(self, request: kv_pb2.ReserveRequest, context: Context) -> kv_pb2.Reservation:
        worker, num_tokens = self._worker, request.num_tokens
        if not 0 < num_tokens < worker.max_model_len:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"num_tokens is {num_tokens}: it must be from 1 to {worker.max_model_len - 1}",
            )
        if worker.is_draining:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the worker is draining")
        if worker.role is Role.PREFILL:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "a prefill worker reserves no room")
        reservation_id = f"{request.request_id}-{uuid4().hex[:8]}"
        try:
            fits = await self._call(lambda engine: engine.reserve(reservation_id, num_tokens), context)
        except BaseException:
            worker.engine.post(lambda engine: engine.release_reservation(reservation_id))
            raise
        if not fits:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"no room for {num_tokens} tokens now")
        expires_at = worker.leases.grant(reservation_id, ReservedRoom(num_tokens), self._ttl(request.ttl_ms))
        return kv_pb2.Reservation(reservation_id=reservation_id, expires_at_ms=self._unix_ms(expires_at))

    async def Pull(self, request: kv_pb2.PullRequest, context: Context) -> AsyncIterator[kv_pb2.KvChunk]:
        worker, handle = self._worker, request.handle
        started, num_bytes = time.monotonic(), 0
        num_tokens = await self._check_pull(request, context)
        end_block = -(-num_tokens // worker.layout.block_size)
        worker.leases.renew(handle, worker.settings.lease_ttl)
        for group in chunk_ranges(worker.layout, request.first_block, end_block):
            for blocks, data in zip(group, await self._read(handle, group, context), strict=True):
                num_bytes += len(data)
                yield pack_chunk(blocks, data)
        worker.metrics.transferred("out", num_bytes, time.monotonic() - started)

    async def Release(self, request: kv_pb2.ReleaseRequest, context: Context) -> kv_pb2.ReleaseReply:
        reason = RELEASE_REASONS.get(request.reason, EndReason.CANCELLED)
        return kv_pb2.ReleaseReply(released=self._worker.leases.release(request.handle, reason))

    async def Renew(self, request: kv_pb2.RenewRequest, context: Context) -> kv_pb2.RenewReply:
        expires_at = self._worker.leases.renew(request.handle, self._ttl(request.ttl_ms))
        if expires_at is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"nothing is leased as {request.handle!r}")
        return kv_pb2.RenewReply(expires_at_ms=self._unix_ms(expires_at))

    async def WatchLoad(
        self, request: kv_pb2.WatchLoadRequest, context: Context
    ) -> AsyncIterator[kv_pb2.Load]:
        async for load in watch_load(self._worker, request.min_interval_ms / 1000):
            yield load
        await context.abort(grpc.StatusCode.UNAVAILABLE, self._worker.engine.failure or "")

    async def WatchKvEvents(
        self, request: kv_pb2.WatchKvEventsRequest, context: Context
    ) -> AsyncIterator[kv_pb2.KvEvents]:
        async for events in watch_kv_events(self._worker, request.from_sequence):
            yield events
        await context.abort(grpc.StatusCode.UNAVAILABLE, self._worker.engine.failure or "")

    async def Drain(self, request: kv_pb2.DrainRequest, context: Context) -> kv_pb2.DrainReply:
        worker = self._worker
        drained = await worker.drain(request.deadline_ms / 1000 or worker.settings.drain_timeout)
        return kv_pb2.DrainReply(
            drained=drained, num_running=worker.num_running, num_leases=len(worker.leases)
        )

    async def SetRole(self, request: kv_pb2.SetRoleRequest, context: Context) -> kv_pb2.SetRoleReply:
        role = ROLES.get(request.role)
        if role is None:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{request.role} is no role")
        return kv_pb2.SetRoleReply(previous=WIRE_ROLES[self._worker.set_role(role)])

    async def _check_pull(self, request: kv_pb2.PullRequest, context: Context) -> int:
        """The number of tokens behind the handle, after everything that could make them the wrong ones."""
        worker = self._worker
        holding = worker.leases.find(request.handle)
        if request.engine_id and request.engine_id != worker.engine_id:
            await _refuse(context, TransferFailure.WRONG_ENGINE, f"this is engine {worker.engine_id}")
        if unpack_layout(request.layout) != worker.layout:
            await _refuse(context, TransferFailure.LAYOUT_MISMATCH, f"the KV here is {worker.layout}")
        if not isinstance(holding, HeldPrompt):
            await _refuse(
                context, TransferFailure.UNKNOWN_HANDLE, f"{request.handle!r} has expired or never was"
            )
        if request.num_tokens not in (0, holding.num_tokens):
            await _refuse(
                context, TransferFailure.PROMPT_MISMATCH, f"the prompt here has {holding.num_tokens} tokens"
            )
        if request.prompt_digest not in (b"", holding.digest):
            await _refuse(context, TransferFailure.PROMPT_MISMATCH, "the prompt here has other tokens")
        return holding.num_tokens

    async def _read(self, handle: str, group: list[range], context: Context) -> list[bytes]:
        """Looked up and read in one go on the engine's thread: a lease that ends meanwhile spoils nothing."""

        def read(engine: Engine) -> list[bytes]:
            block_ids = engine.held(handle).block_ids
            return [engine.read_blocks(block_ids[blocks.start : blocks.stop]) for blocks in group]

        try:
            return await self._call(read, context)
        except UnknownRequestError:
            await _refuse(context, TransferFailure.UNKNOWN_HANDLE, f"{handle!r} has expired meanwhile")

    async def _call(self, command: Callable[[Engine], T], context: Context) -> T:
        try:
            return await self._worker.engine.call(command)
        except EngineDeadError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the engine gave no answer in time")

    def _ttl(self, ttl_ms: int) -> float:
        return min(ttl_ms / 1000, MAX_TTL_SECONDS) or self._worker.settings.lease_ttl

    def _unix_ms(self, expires_at: float) -> int:
        return int(self._worker.leases.unix_time(expires_at) * 1000)


async def _refuse(context: Context, reason: TransferFailure, message: str) -> NoReturn:
    """The puller reads the reason from the first word."""
    missing = reason is TransferFailure.UNKNOWN_HANDLE
    code = grpc.StatusCode.NOT_FOUND if missing else grpc.StatusCode.FAILED_PRECONDITION
    await context.abort(code, f"{reason}: {message}")
