"""TensorRT-LLM's `disaggregated_params`, context first.

Sources: tensorrt_llm/serve/openai_protocol.py, openai_disagg_service.py, disagg_auth.py. Bodies with fields
that it does not know are answered 400, so nothing of other engines may be in them.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from tandem_router.engines.base import (
    Engine,
    Pairing,
    PrefillAnswer,
    Prepared,
    finish_reason,
    first_choice,
    with_usage,
)
from tandem_router.json_body import JsonBody, new_members

AUTH_HEADER = "x-trtllm-disagg-auth"
LEASE_SECONDS = 60.0
"""TensorRT-LLM's kv_transfer_timeout_ms; a generation leg past it fails."""
LEAST_ID = 2**42
"""Ids below it are the engines' own."""

_PARAMS = "disaggregated_params"
_IDS = "prompt_token_ids"
_ONE_TOKEN = new_members({"max_tokens": 1, "stream": False})
_SIGNED = ("ctx_info_endpoint", "encoded_opaque_state")


class Trtllm(Engine):
    """`auth_key` is the deployment's internal_request_auth_key: with it, protected fields are signed."""

    verifies = True

    def __init__(self, auth_key: str | None = None) -> None:
        self._key = auth_key.encode() if auth_key else None

    def prepare_prefill(self, body: JsonBody, pairing: Pairing) -> Prepared:
        params = {"request_type": "context_only", "disagg_request_id": pairing.key | LEAST_ID}
        leg = body.without("stream_options", "min_tokens", "max_completion_tokens").with_members(_ONE_TOKEN)
        return Prepared(leg.with_values({_PARAMS: params}).encode())

    def read_prefill(self, request: JsonBody, answer: Mapping[str, Any]) -> PrefillAnswer:
        """The params, with the prompt's token ids beside them: the generation leg need not tokenise."""
        choice = first_choice(answer) or {}
        params = choice.get(_PARAMS) or answer.get(_PARAMS)
        finished = finish_reason(answer) not in (None, "length", "not_finished", "tool_calls")
        if finished or not isinstance(params, dict):
            return PrefillAnswer(None, finished)
        return PrefillAnswer({_PARAMS: params, _IDS: answer.get(_IDS)}, finished=False)

    def prepare_decode(self, body: JsonBody, pairing: Pairing, params: Mapping[str, Any] | None) -> Prepared:
        if params is None:
            raise ValueError("the generation leg needs the context leg's params")
        told = {**params[_PARAMS], "request_type": "generation_only"}
        changes: dict[str, Any] = {_PARAMS: told}
        if params[_IDS] is not None:
            changes["prompt" if "prompt" in body else _IDS] = params[_IDS]
        return Prepared(with_usage(body, changes).encode(), self._signature(told))

    def lease(self, params: Mapping[str, Any], unix_now: float) -> float:
        return LEASE_SECONDS

    def _signature(self, told: Mapping[str, Any]) -> dict[str, str]:
        """HMAC-SHA256 over the protected fields as compact JSON with sorted keys (disagg_auth.py)."""
        signed = {field: told.get(field) for field in _SIGNED}
        if self._key is None or all(value is None for value in signed.values()):
            return {}
        endpoint = signed["ctx_info_endpoint"]
        if isinstance(endpoint, list):
            signed["ctx_info_endpoint"] = endpoint[0] if endpoint else None
        text = json.dumps(signed, sort_keys=True, separators=(",", ":"))
        return {AUTH_HEADER: f"sha256={hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()}"}
