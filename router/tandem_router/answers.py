"""What the client gets to see: headers, whole answers without internal fields, errors."""

from tandem_router.engines.base import PARAMS
from tandem_router.errors import ApiError
from tandem_router.headers import REQUEST_ID
from tandem_router.json_body import BodyError, JsonBody, parse_object
from tandem_router.record import Record

_OPAQUE = "disaggregated_params"
_INTERNAL = (PARAMS, "ec_transfer_params", _OPAQUE)
_ABSENT = f'"{PARAMS}":null'.encode()


def public_body(data: bytes) -> bytes:
    """An answer without what only workers may know of each other: hosts, ports, block ids."""
    has_opaque = _OPAQUE.encode() in data
    if not has_opaque and (PARAMS.encode() not in data or _ABSENT in data):
        return data
    try:
        body = parse_object(data).without(*_INTERNAL)
        return (_without_opaque(body) if has_opaque else body).encode()
    except BodyError:
        return data


def _without_opaque(body: JsonBody) -> JsonBody:
    """TensorRT-LLM says it in each choice."""
    choices = body.get("choices")
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        return body
    kept = [{key: value for key, value in choice.items() if key != _OPAQUE} for choice in choices]
    return body.with_values({"choices": kept}) if kept != choices else body


def answer_headers(record: Record, request_id: str, now: float) -> dict[str, str]:
    """Which workers served, by which path, and what is known of the times at `now`."""
    headers = {REQUEST_ID: request_id, **record.limits}
    if record.choice is not None:
        headers["x-tandem-path"] = record.choice.path
        if record.prefill_name:
            headers["x-tandem-prefill"] = record.prefill_name
        if record.decode_name:
            headers["x-tandem-decode"] = record.decode_name
    timing = f"total;dur={(now - record.received) * 1000:.1f}"
    for name, seconds in (
        ("handover", record.handover_seconds),
        ("prefill", record.prefill_seconds),
        ("queue", record.queued),
    ):
        if seconds is not None:
            timing = f"{name};dur={seconds * 1000:.1f}, {timing}"
    headers["server-timing"] = timing
    return headers


def error_headers(error: ApiError, request_id: str) -> dict[str, str]:
    headers = {REQUEST_ID: request_id, "content-type": "application/json", **error.headers}
    if error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after)
    return headers
