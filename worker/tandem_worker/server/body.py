"""Reads a request's body: one JSON object, of bounded size, in bounded time, that says one thing only."""

import asyncio
import json
from typing import Any, NoReturn, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from tandem_worker.server.errors import ApiError, invalid

MAX_BODY_BYTES = 16 << 20
BODY_SECONDS = 60.0

T = TypeVar("T", bound=BaseModel)


async def read_body(request: web.Request) -> bytes:
    """ApiError: the client sends too slowly. aiohttp refuses bodies over `MAX_BODY_BYTES`."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError:
        raise ApiError(408, f"the body did not arrive within {BODY_SECONDS:g} s") from None


def parse_object(body: bytes) -> dict[str, Any]:
    """ApiError: no JSON object, a key twice at its top level, or a number that JSON does not have."""
    last: list[tuple[str, Any]] = []

    def remember(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        last[:] = pairs  # the outermost object is the last one to be complete
        return dict(pairs)

    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=remember, parse_constant=_refuse_constant)
    except RecursionError:
        raise invalid("the body is nested too deeply", code="invalid_json") from None
    except ValueError as error:
        raise invalid(f"the body is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(value, dict):
        raise invalid("the body must be a JSON object", code="invalid_json")
    keys = [key for key, _ in last]
    for key in keys:
        if keys.count(key) > 1:
            raise invalid(f"the key {key!r} is there twice", param=key, code="duplicate_key")
    return value


def validate(model: type[T], value: dict[str, Any]) -> T:
    """ApiError: the first thing that is wrong, with its place."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        param = ".".join(str(part) for part in first["loc"] if not _is_union_tag(part)) or None
        message = first["msg"].removeprefix("Value error, ")
        raise invalid(f"{param}: {message}" if param else message, param=param) from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _is_union_tag(part: int | str) -> bool:
    """pydantic puts the tried member of a union into the place: `content.str`, `prompt.list[int]`."""
    return isinstance(part, str) and (part in ("str", "int") or not part.isidentifier())
