"""What the router checks of a request body: known fields, their types and ranges. Unknown fields pass."""

from typing import Annotated

from msgspec import Meta, Raw, Struct

_INT32, _INT64 = 2**31 - 1, 2**63 - 1
NO_VALUE = Raw()

Count = Annotated[int, Meta(ge=1, le=_INT32)]
Limit = Annotated[int, Meta(ge=0, le=_INT32)]
Logprobs = Annotated[int, Meta(ge=0, le=20)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Choices = Annotated[int, Meta(ge=1, le=128)]
Text = Annotated[str, Meta(min_length=1)]
TokenId = Annotated[int, Meta(ge=0, le=_INT64)]


class StreamOptions(Struct, gc=False):
    include_usage: bool | None = None


class Message(Struct, gc=False):
    role: Text


class CommonFields(Struct, gc=False):
    """Fields of both APIs. None means absent: clients send null for what they leave out."""

    model: Text
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Choices | None = None
    max_tokens: Limit | None = None
    min_tokens: Limit | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=_INT32)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    seed: Annotated[int, Meta(ge=-_INT64 - 1, le=_INT64)] | None = None
    stop: Text | Annotated[list[Text], Meta(max_length=16)] | None = None
    user: str | None = None
    prompt_cache_key: str | None = None
    prompt_logprobs: Raw = NO_VALUE
    use_beam_search: bool | None = None


class ChatFields(CommonFields, kw_only=True, gc=False):
    messages: Annotated[list[Message], Meta(min_length=1)]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Logprobs | None = None


class CompletionFields(CommonFields, kw_only=True, gc=False):
    """`prompt` is a text, token ids, or a list of several such."""

    prompt: Raw
    best_of: Choices | None = None
    echo: bool | None = None
    logprobs: Logprobs | None = None
    suffix: str | None = None


class EmbeddingFields(Struct, gc=False):
    model: Text
    input: Raw
    user: str | None = None
