"""Tandem's own worker: vLLM's params, KV over gRPC, and a refusal before the first byte where KV is gone."""

import time
from collections.abc import Mapping
from typing import Any

import grpc

from tandem_sim.engines.protocols.base import CALL_SECONDS, Ask, LoadFailedError, params_of
from tandem_sim.engines.protocols.nixl import Nixl
from tandem_wire.kv_pb2 import PullRequest, ReleaseRequest
from tandem_wire.kv_pb2_grpc import WorkerStub


class Native(Nixl):
    keeps_stopped = False
    error_in_stream = False
    load_failed_status = 502
    load_failed_code = "kv_unknown_handle"

    async def keep(self, ask: Ask, seconds: float) -> Mapping[str, Any]:
        self.site.kv.grant(ask.request_id, ask.digest, seconds)
        expiry = {"remote_blocks_expiry_time": time.time() + seconds, "remote_port": self.site.kv_port}
        return {"kv_transfer_params": self.params(ask) | expiry}

    async def load(self, ask: Ask) -> str | None:
        """Pull, then Release, as the native worker does."""
        params = params_of(ask.body)
        handle = params["remote_request_id"]
        target = f"{params['remote_host']}:{params['remote_port']}"
        try:
            async with grpc.aio.insecure_channel(target) as channel:
                stub = WorkerStub(channel)
                request = PullRequest(handle=handle, engine_id=params["remote_engine_id"])
                data = b"".join([chunk.data async for chunk in stub.Pull(request, timeout=CALL_SECONDS)])
                await stub.Release(ReleaseRequest(handle=handle, reason="pulled"), timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise LoadFailedError(target) from error
        if data.decode() != ask.digest:
            raise LoadFailedError("kv_prompt_mismatch")
        return data.decode()
