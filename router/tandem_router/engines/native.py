"""Tandem's own worker: vLLM's protocol, and handles that are given back over gRPC (`Worker.Release`)."""

from collections.abc import Mapping
from typing import Any

from tandem_router.engines.base import ReleaseCall
from tandem_router.engines.vllm import Vllm


class Native(Vllm):
    verifies = True

    def release(self, params: Mapping[str, Any]) -> ReleaseCall | None:
        host, port, handle = (params.get(f"remote_{key}") for key in ("host", "port", "request_id"))
        if isinstance(host, str) and type(port) is int and 0 < port < 65536 and isinstance(handle, str):
            return ReleaseCall(host, port, handle)
        return None
