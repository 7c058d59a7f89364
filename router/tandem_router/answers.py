"""What the client gets to see: headers, whole answers without internal fields, errors."""

from tandem_router.engines.base import PARAMS
from tandem_router.errors import ApiError
from tandem_router.headers import REQUEST_ID
from tandem_router.json_body import BodyError, parse_object
from tandem_router.record import Record

_INTERNAL = (PARAMS, "ec_transfer_params")
_ABSENT = f'"{PARAMS}":null'.encode()


def public_body(data: bytes) -> bytes:
    """An answer without what only workers may know of each other: hosts, ports, block ids."""
    if PARAMS.encode() not in data or _ABSENT in data:
        return data
    try:
        body = parse_object(data)
    except BodyError:
        return data
    return body.without(*_INTERNAL).encode()


def answer_headers(record: Record, request_id: str, now: float) -> dict[str, str]:
    """Which workers served, by which path, and what is known of the times at `now`."""
    headers = {REQUEST_ID: request_id, **record.limits}
    if record.choice is not None:
        headers["x-tandem-path"] = record.choice.path
        if record.prefill_name:
            headers["x-tandem-prefill"] = record.prefill_name
        if record.decode_name:
            headers["x-tandem-decode"] = record.decode_name
    phases = {
        "queue": record.queued,
        "prefill": record.prefill_seconds,
        "handover": record.handover_seconds,
        "total": now - record.received,
    }
    timing = ", ".join(f"{name};dur={s * 1000:.1f}" for name, s in phases.items() if s is not None)
    return headers | {"server-timing": timing}


def error_headers(error: ApiError, request_id: str) -> dict[str, str]:
    headers = {REQUEST_ID: request_id, "content-type": "application/json", **error.headers}
    if error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after)
    return headers
