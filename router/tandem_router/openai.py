"""From the bytes of an OpenAI request to what the router needs of it. Pure."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from tandem_router.errors import ApiError, invalid
from tandem_router.json_body import BodyError, JsonBody, parse_object
from tandem_router.schema import ChatFields, CompletionFields
from tandem_router.types import RequestInfo

BYTES_PER_TOKEN = 4
"""A usual value for English and byte-pair vocabularies: the router estimates, it does not tokenise."""

_INTERNAL = frozenset(
    {"kv_transfer_params", "ec_transfer_params", "disaggregated_params", "data_parallel_rank"}
)
_INTERNAL_PREFIX = "bootstrap_"
_NESTING = ("sampling_params", "extra_args", "vllm_xargs")


class Api(StrEnum):
    """An API of the router; the value is its path, here and at the workers."""

    CHAT = "/v1/chat/completions"
    COMPLETION = "/v1/completions"


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A checked request. `body` holds nothing that only the router may say."""

    info: RequestInfo
    api: Api
    body: JsonBody
    wants_usage: bool


def parse_request(api: Api, data: bytes, request_id: str) -> ParsedRequest:
    """Checks and strips a body. Raises ApiError (400) with the field that is wrong."""
    try:
        body = strip_internal(parse_object(data))
    except BodyError as error:
        raise invalid(f"invalid JSON: {error}", code="invalid_json") from error
    fields = _validate(api, body)
    stream = fields.stream or False
    if fields.stream_options is not None and not stream:
        raise invalid("stream_options is only allowed when stream is true", "stream_options")
    if isinstance(fields, ChatFields) and fields.top_logprobs and not fields.logprobs:
        raise invalid("top_logprobs needs logprobs to be true", "top_logprobs")
    info = RequestInfo(request_id, fields.model, _prompt_tokens(fields, len(data)), stream)
    return ParsedRequest(info, api, body, bool(fields.stream_options and fields.stream_options.include_usage))


def strip_internal(body: JsonBody) -> JsonBody:
    """Drops what tells engines where KV comes from: clients could make workers call anywhere with it."""
    named = [key for key in body if key in _INTERNAL or key.startswith(_INTERNAL_PREFIX)]
    cleaned = {key: _strip_nested(body[key]) for key in _NESTING if key in body}
    changed = {key: value for key, value in cleaned.items() if value != body[key]}
    if not named and not changed:
        return body
    return body.without(*named).with_values(changed)


def _strip_nested(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {
        key: _strip_nested(inner) if key in _NESTING else inner
        for key, inner in value.items()
        if key not in _INTERNAL and not key.startswith(_INTERNAL_PREFIX)
    }


def _validate(api: Api, body: JsonBody) -> ChatFields | CompletionFields:
    model = ChatFields if api is Api.CHAT else CompletionFields
    try:
        return model.model_validate(body.as_dict())
    except ValidationError as error:
        raise _first_error(error) from error


def _first_error(error: ValidationError) -> ApiError:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    param = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return invalid(f"{param} is required", param, "missing_required_parameter")
    if param in ("n", "best_of"):
        return invalid(f"{param} must be 1", param, "unsupported_value")
    return invalid(f"{param}: {first['msg'].removeprefix('Value error, ')}", param)


def _prompt_tokens(fields: ChatFields | CompletionFields, body_bytes: int) -> int:
    if isinstance(fields, CompletionFields) and isinstance(fields.prompt, list):
        return len(fields.prompt)
    return body_bytes // BYTES_PER_TOKEN
