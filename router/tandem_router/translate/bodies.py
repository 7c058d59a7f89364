"""Reads the body of another API against its schema; what is wrong is said with its place."""

import json
from typing import Any, NoReturn, TypeVar

import msgspec

from tandem_router.errors import ApiError, invalid
from tandem_router.json_body import BodyError, parse_object

T = TypeVar("T")


def read_body(data: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Raises ApiError (400)."""
    try:
        parse_object(data)
        return decoder.decode(data)
    except BodyError as error:
        raise invalid(f"invalid JSON: {error}", code="invalid_json") from error
    except msgspec.ValidationError as error:
        complaint, _, place = str(error).partition(" - at `$")
        param = place.rstrip("`").replace("[", ".").replace("]", "").lstrip(".")
        if complaint.startswith("Object missing required field `"):
            param = ".".join(filter(None, (param, complaint.split("`")[1])))
            raise invalid(f"{param}: Field required", param, "missing_required_parameter") from error
        raise invalid(f"{param}: {complaint}", param) from error


def unsupported(param: str, why: str) -> NoReturn:
    raise ApiError(400, f"{param}: {why}", "unsupported_parameter", param)


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def server_sent(kind: str, payload: dict[str, Any]) -> bytes:
    """One event that carries its type twice, as both APIs write them."""
    return f"event: {kind}\ndata: {compact({'type': kind, **payload})}\n\n".encode()
