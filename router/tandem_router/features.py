"""What a request asks for beyond one stream of tokens from one prompt: engines differ there. Pure."""

from enum import StrEnum
from typing import NamedTuple

import msgspec

from tandem_router.errors import ApiError, invalid
from tandem_router.schema import ChatFields, CompletionFields, TokenId


class Feature(StrEnum):
    """The values name reasons of paths (`local`) and columns of docs/conformance.md."""

    EMBEDDINGS = "embeddings"
    N = "n"
    BEST_OF = "best_of"
    BEAM_SEARCH = "beam_search"
    BATCH = "batched_prompts"
    ECHO = "echo"
    ECHO_LOGPROBS = "echo_logprobs"
    PROMPT_LOGPROBS = "prompt_logprobs"
    SUFFIX = "suffix"
    NO_TOKENS = "no_tokens"


class Prompts(NamedTuple):
    """How many prompts there are, and how many tokens in all; 0 where the prompts are text."""

    number: int
    tokens: int


_NONE: frozenset[Feature] = frozenset()
_texts = msgspec.json.Decoder(list[str]).decode
_tokens = msgspec.json.Decoder(list[TokenId]).decode
_batches = msgspec.json.Decoder(list[list[TokenId]]).decode


def features_of(fields: ChatFields | CompletionFields, num_prompts: int) -> frozenset[Feature]:
    found: list[Feature] = []
    if fields.n is not None and fields.n > 1:
        found.append(Feature.N)
    if fields.use_beam_search:
        found.append(Feature.BEAM_SEARCH)
    if fields.prompt_logprobs and bytes(fields.prompt_logprobs) != b"null":
        found.append(Feature.PROMPT_LOGPROBS)
    if isinstance(fields, CompletionFields):
        found += _of_completion(fields, num_prompts)
    return frozenset(found) if found else _NONE


def _of_completion(fields: CompletionFields, num_prompts: int) -> list[Feature]:
    asked = {
        Feature.BEST_OF: (fields.best_of or 1) > 1,
        Feature.BATCH: num_prompts > 1,
        Feature.ECHO: bool(fields.echo),
        Feature.ECHO_LOGPROBS: bool(fields.echo) and fields.logprobs is not None,
        Feature.SUFFIX: bool(fields.suffix),
        Feature.NO_TOKENS: fields.max_tokens == 0,
    }
    return [feature for feature, is_asked in asked.items() if is_asked]


def prompts_of(raw: msgspec.Raw, param: str) -> Prompts:
    """A text, token ids, or a list of several of either. Raises ApiError (400)."""
    text = bytes(memoryview(raw)[:64]).replace(b" ", b"").replace(b"\n", b"")
    try:
        if text.startswith(b'"'):
            number, tokens, empty = 1, 0, len(raw) == 2
        elif text.startswith(b'["'):
            texts = _texts(raw)
            number, tokens, empty = len(texts), 0, "" in texts
        elif text.startswith(b"[["):
            batches = _batches(raw)
            number, tokens, empty = len(batches), sum(map(len, batches)), [] in batches
        else:
            ids = _tokens(raw)
            number, tokens, empty = 1, len(ids), not ids
    except msgspec.ValidationError as error:
        raise _odd(param) from error
    if empty:
        raise invalid(f"{param} must not be empty", param)
    return Prompts(number, tokens)


def _odd(param: str) -> ApiError:
    return invalid(f"{param} must be a string, a list of token ids, or a list of either", param)
