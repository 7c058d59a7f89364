"""From the bytes of an OpenAI request to what the router needs of it. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from tandem_router.access.names import PLAIN, Named, Names
from tandem_router.errors import ApiError, invalid
from tandem_router.features import Feature, features_of, prompts_of
from tandem_router.json_body import BodyError, JsonBody, parse_object
from tandem_router.prefix import prefix_hashes, root_of
from tandem_router.schema import ChatFields, CompletionFields, EmbeddingFields
from tandem_router.types import RequestInfo
from tandem_router.values import quick

BYTES_PER_TOKEN = 4
"""A usual value for English and byte-pair vocabularies: the router estimates, it does not tokenise."""

_INTERNAL = frozenset(
    {
        "cache_hit_threshold",
        "data_parallel_rank",
        "disagg_prefill_dp_rank",
        "disaggregated_params",
        "ec_transfer_params",
        "kv_transfer_params",
        "lora_path",
        "lora_request",
        "request_id",
        "resume",
        "rid",
        "routed_dp_rank",
    }
)
_INTERNAL_PREFIX = "bootstrap_"
_OURS = frozenset({"prompt_cache_key"})
"""What clients tell routers: read here, and taken out, since some engines refuse what they do not know."""
_DROPPED = _INTERNAL | _OURS
_NESTING = ("sampling_params", "extra_args", "vllm_xargs")


class Api(StrEnum):
    """An API of the workers; the value is its path, here and there."""

    CHAT = "/v1/chat/completions"
    COMPLETION = "/v1/completions"
    EMBEDDING = "/v1/embeddings"


class Asker(NamedTuple):
    """What is known of who asks before the body is read; empty is not told."""

    tenant: str = ""
    service_class: str = ""
    session: str = ""


@quick
@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A checked request. `body` holds nothing that only the router may say; `name` is the model asked for."""

    info: RequestInfo
    api: Api
    body: JsonBody
    wants_usage: bool
    features: frozenset[Feature] = frozenset()
    name: str = ""


_ANYONE = Asker()
_EMBEDDINGS = frozenset({Feature.EMBEDDINGS})
_DECODE: dict[Api, Callable[[bytes], ChatFields | CompletionFields | EmbeddingFields]] = {
    Api.CHAT: msgspec.json.Decoder(ChatFields).decode,
    Api.COMPLETION: msgspec.json.Decoder(CompletionFields).decode,
    Api.EMBEDDING: msgspec.json.Decoder(EmbeddingFields).decode,
}


class _Ask(NamedTuple):
    """What the fields of a body say."""

    stream: bool
    max_tokens: int | None
    prompt_tokens: int
    session: str
    wants_usage: bool
    features: frozenset[Feature]


def parse_request(
    api: Api, data: bytes, request_id: str, asker: Asker = _ANYONE, names: Names = PLAIN
) -> ParsedRequest:
    """Checks and strips a body. Raises ApiError (400) with the field that is wrong."""
    try:
        body = strip_internal(parse_object(data))
        body.get("stream_options")  # read on the way to every engine: what is wrong with it is said now
    except BodyError as error:
        raise invalid(f"invalid JSON: {error}", code="invalid_json") from error
    try:
        fields = _DECODE[api](data)
    except msgspec.ValidationError as error:
        raise _first_error(str(error)) from error
    estimate = len(data) // BYTES_PER_TOKEN
    ask = _ask(fields, estimate)
    tenant, service_class, session = asker
    session = session or ask.session
    named = names.resolve(fields.model, session or request_id)
    if named.served != fields.model:
        body = body.with_values({"model": named.served})
    info = RequestInfo(
        request_id,
        named.model,
        ask.prompt_tokens,
        ask.stream,
        ask.max_tokens,
        service_class or "default",
        tenant,
        session,
        named.adapter,
        _prefix(api, body, named, tenant),
        prompt_bytes=len(data) if ask.prompt_tokens == estimate else 0,
    )
    return ParsedRequest(info, api, body, ask.wants_usage, ask.features, fields.model)


def _ask(fields: ChatFields | CompletionFields | EmbeddingFields, prompt_tokens: int) -> _Ask:
    if isinstance(fields, EmbeddingFields):
        prompts_of(fields.input, "input")
        return _Ask(False, None, prompt_tokens, fields.user or "", True, _EMBEDDINGS)
    stream, options = fields.stream or False, fields.stream_options
    if options is not None and not stream:
        raise invalid("stream_options is only allowed when stream is true", "stream_options")
    max_tokens, num_prompts = fields.max_tokens, 1
    if isinstance(fields, ChatFields):
        if fields.top_logprobs and not fields.logprobs:
            raise invalid("top_logprobs needs logprobs to be true", "top_logprobs")
        max_tokens = fields.max_completion_tokens or max_tokens
    else:
        prompts = prompts_of(fields.prompt, "prompt")
        num_prompts, prompt_tokens = prompts.number, prompts.tokens or prompt_tokens
    if max_tokens == 0 and not (isinstance(fields, CompletionFields) and fields.echo):
        raise invalid("max_tokens: Expected `int` >= 1", "max_tokens")
    session = fields.prompt_cache_key or fields.user or ""
    wants_usage = options is not None and bool(options.include_usage)
    return _Ask(stream, max_tokens, prompt_tokens, session, wants_usage, features_of(fields, num_prompts))


def _prefix(api: Api, body: JsonBody, named: Named, tenant: str) -> tuple[int, ...]:
    """A chat template puts the tools before the messages."""
    if api is Api.EMBEDDING:
        return ()
    tools = bytes(body.raw("tools")) if "tools" in body else b""
    text = memoryview(body.raw("messages" if api is Api.CHAT else "prompt"))
    return prefix_hashes(text, root_of(named.model, tenant, named.adapter, tools))


def strip_internal(body: JsonBody) -> JsonBody:
    """Drops what only routers tell engines: where KV comes from, ids that it is kept by, paths of adapters.

    Clients could make workers call anywhere with it, read files, or take over the KV of others.
    """
    named = [key for key in body if key in _DROPPED or key.startswith(_INTERNAL_PREFIX)]
    changed: dict[str, Any] = {}
    for key in _NESTING:
        if key in body and (cleaned := _strip_nested(body[key])) != body[key]:
            changed[key] = cleaned
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


def _first_error(text: str) -> ApiError:
    """From `Expected `int` >= 1 - at `$.max_tokens`` to an error that names the field."""
    complaint, _, place = text.rpartition(" - at `$")
    if not complaint:
        complaint, place = text, ""
    param = place.rstrip("`").replace("[", ".").replace("]", "").lstrip(".")
    if complaint.startswith("Object missing required field `"):
        field = complaint.split("`")[1]
        param = f"{param}.{field}" if param else field
        return invalid(f"{param} is required", param, "missing_required_parameter")
    if param.startswith("stop."):
        param = "stop"
    return invalid(f"{param}: {complaint}", param)
