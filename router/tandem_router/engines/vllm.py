"""vLLM's NixlConnector in pull mode (vllm/distributed/kv_transfer/kv_connector/v1/nixl/pull_scheduler.py)."""

from collections.abc import Mapping
from typing import Any

from tandem_router.engines.base import (
    PARAMS,
    Engine,
    Pairing,
    PrefillAnswer,
    Prepared,
    finish_reason,
    with_usage,
)
from tandem_router.json_body import JsonBody, new_members

_GOES_ON = (None, "length", "tool_calls")
"""One token is no whole call of a tool, whatever engines say of it."""
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
_ASKED = new_members({PARAMS: _ASK})
_ONE_TOKEN = new_members({"max_tokens": 1, "stream": False})
_COMPLETION_LIMIT = new_members({"max_completion_tokens": 1})


def one_token(body: JsonBody) -> JsonBody:
    """The request, to end after its first token and in one piece."""
    if "max_completion_tokens" in body:
        body = body.with_members(_COMPLETION_LIMIT)
    return body.without("stream_options", "min_tokens").with_members(_ONE_TOKEN)


class Vllm(Engine):
    """Strategy for vLLM workers. The params of the prefill answer are opaque and go on unchanged."""

    def prepare_prefill(self, body: JsonBody, pairing: Pairing) -> Prepared:
        return Prepared(one_token(body).with_members(_ASKED).encode())

    def read_prefill(self, request: JsonBody, answer: Mapping[str, Any]) -> PrefillAnswer:
        params = answer.get(PARAMS)
        # Without min_tokens the leg may stop at a token that the request itself forbids there.
        finished = not request.get("min_tokens") and finish_reason(answer) not in _GOES_ON
        return PrefillAnswer(params if isinstance(params, dict) and params else None, finished)

    def prepare_decode(self, body: JsonBody, pairing: Pairing, params: Mapping[str, Any] | None) -> Prepared:
        if params is None:
            raise ValueError("the decode leg needs the prefill answer's params")
        return Prepared(with_usage(body, {PARAMS: params}).encode())

    def lease(self, params: Mapping[str, Any], unix_now: float) -> float:
        expiry = params.get("remote_blocks_expiry_time")
        if isinstance(expiry, int | float):
            return min(LEASE_SECONDS, expiry - unix_now)
        return LEASE_SECONDS
