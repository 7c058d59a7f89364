"""A decode worker's side of the hand-over: fetches what a prefill worker keeps. Both ways end in a digest."""

import asyncio
from collections.abc import Mapping
from typing import Any

import aiohttp
import grpc

from tandem_wire.kv_pb2 import PullRequest, ReleaseRequest
from tandem_wire.kv_pb2_grpc import WorkerStub

PULL_SECONDS = 2.0


class LoadFailedError(Exception):
    """The prefill worker cannot be reached, or refuses."""


async def pull_vllm(session: aiohttp.ClientSession, params: Mapping[str, Any]) -> str | None:
    """The digest behind the params; None if the KV is gone, which vLLM does not notice."""
    url = f"http://{params['remote_host']}:{params['remote_port']}/fake/pull"
    asked = {"handle": params["remote_request_id"], "engine_id": params["remote_engine_id"]}
    try:
        async with asyncio.timeout(PULL_SECONDS), session.post(url, json=asked) as response:
            answer = await response.json()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise LoadFailedError from error
    digest: str | None = answer["digest"]
    return digest


async def pull_native(params: Mapping[str, Any]) -> str:
    """Pull, then Release, as the native worker does. Raises LoadFailedError, also when the KV is gone."""
    handle = params["remote_request_id"]
    target = f"{params['remote_host']}:{params['remote_port']}"
    try:
        async with grpc.aio.insecure_channel(target) as channel:
            stub = WorkerStub(channel)
            request = PullRequest(handle=handle, engine_id=params["remote_engine_id"])
            data = b"".join([chunk.data async for chunk in stub.Pull(request, timeout=PULL_SECONDS)])
            await stub.Release(ReleaseRequest(handle=handle, reason="pulled"), timeout=PULL_SECONDS)
    except grpc.aio.AioRpcError as error:
        raise LoadFailedError from error
    return data.decode()
