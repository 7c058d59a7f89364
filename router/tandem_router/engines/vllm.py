"""vLLM's NixlConnector in pull mode (vllm/distributed/kv_transfer/kv_connector/v1/nixl)."""

from collections.abc import Mapping
from typing import Any

from tandem_router.engines.base import PARAMS, PrefillAnswer, ReleaseCall
from tandem_router.json_body import JsonBody, new_members

LEASE_SECONDS = 30.0
"""vLLM's kv_lease_duration. Past it a decode leg is answered with wrong tokens and no error."""

_ASK = {
    "do_remote_decode": True,
    "do_remote_prefill": False,
    "remote_engine_id": None,
    "remote_block_ids": None,
    "remote_host": None,
    "remote_port": None,
}
_PREFILL = new_members({"max_tokens": 1, "stream": False, PARAMS: _ASK})
_COMPLETION_LIMIT = new_members({"max_completion_tokens": 1})


class Vllm:
    """Strategy for vLLM workers. The params of the prefill answer are opaque and go on unchanged."""

    def prepare_prefill(self, body: JsonBody) -> bytes:
        if "max_completion_tokens" in body:
            body = body.with_members(_COMPLETION_LIMIT)
        return body.without("stream_options", "min_tokens").with_members(_PREFILL).encode()

    def read_prefill(self, request: JsonBody, answer: Mapping[str, Any]) -> PrefillAnswer:
        params = answer.get(PARAMS)
        # Without min_tokens the leg may stop at a token that the request itself forbids there.
        finished = not request.get("min_tokens") and _finish_reason(answer) not in (None, "length")
        return PrefillAnswer(params if isinstance(params, dict) and params else None, finished)

    def prepare_decode(self, body: JsonBody, params: Mapping[str, Any] | None) -> bytes:
        changes: dict[str, Any] = {} if params is None else {PARAMS: params}
        if body.get("stream"):
            options = body.get("stream_options") or {}
            if not options.get("include_usage"):
                changes["stream_options"] = options | {"include_usage": True}
        return body.with_values(changes).encode() if changes else body.encode()

    def lease(self, params: Mapping[str, Any], unix_now: float) -> float:
        expiry = params.get("remote_blocks_expiry_time")
        if isinstance(expiry, int | float):
            return min(LEASE_SECONDS, expiry - unix_now)
        return LEASE_SECONDS

    def release(self, _params: Mapping[str, Any], /) -> ReleaseCall | None:
        return None


def _finish_reason(answer: Mapping[str, Any]) -> Any:
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return None
    return choices[0].get("finish_reason")
