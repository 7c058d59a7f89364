"""vLLM's NixlPushConnector: the prefill worker writes into blocks that the decode worker registered with it.

Source: docs/design/nixl_kv_push_connector.md and .../v1/nixl/push_scheduler.py. The decode leg has to name
the prefill engine (id, side channel, tensor parallel size). Every prefill answer tells them, so the first
hand-over of a run is serial and those after it are concurrent.
"""

from collections.abc import Mapping
from typing import Any

from tandem_router.engines.base import PARAMS, Pairing, PrefillAnswer, Prepared, with_usage
from tandem_router.engines.vllm import Vllm, one_token
from tandem_router.json_body import JsonBody, new_members

_COORDINATES = ("remote_engine_id", "remote_host", "remote_port", "tp_size")
_OPTIONAL = ("dcp_size", "pp_size")
_UNTIL_LENGTH = new_members({"ignore_eos": True})


def until_length(body: JsonBody) -> JsonBody:
    """The one-token leg without what could end it otherwise: KV is kept only where the limit ended it."""
    return one_token(body).without("stop", "stop_token_ids").with_members(_UNTIL_LENGTH)


def transfer_id(pairing: Pairing) -> str:
    return f"xfer-{pairing.key:016x}"


class VllmPush(Vllm):
    """Both legs carry one transfer id (and one x-request-id, by which older copies match them)."""

    def prepare_prefill(self, body: JsonBody, pairing: Pairing) -> Prepared:
        ask = {"do_remote_decode": True, "do_remote_prefill": False, "transfer_id": transfer_id(pairing)}
        return Prepared(until_length(body).with_values({PARAMS: ask}).encode())

    def read_prefill(self, request: JsonBody, answer: Mapping[str, Any]) -> PrefillAnswer:
        params = answer.get(PARAMS)
        return PrefillAnswer(params if isinstance(params, dict) and params else None, finished=False)

    def prepare_decode(self, body: JsonBody, pairing: Pairing, params: Mapping[str, Any] | None) -> Prepared:
        known = params or pairing.found
        if known is None:
            raise ValueError("the decode leg needs the prefill engine's coordinates")
        told = {
            "do_remote_prefill": True,
            "do_remote_decode": False,
            "transfer_id": transfer_id(pairing),
            # Only heartbeats use it; the prefill engine's own name for the request is not known yet.
            "remote_request_id": known.get("remote_request_id", pairing.request_id),
            **_coordinates(known),
        }
        return Prepared(with_usage(body, {PARAMS: told}).encode())

    def concurrent(self, found: Mapping[str, Any] | None) -> bool:
        return found is not None

    def learn(self, answer: Any) -> Mapping[str, Any] | None:
        params = answer.get(PARAMS) if isinstance(answer, dict) else None
        if not isinstance(params, dict) or any(params.get(key) is None for key in _COORDINATES):
            return None
        return _coordinates(params)


def _coordinates(params: Mapping[str, Any]) -> dict[str, Any]:
    return {key: params[key] for key in (*_COORDINATES, *_OPTIONAL) if key in params}
