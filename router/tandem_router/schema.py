"""What the router checks of a request body: known fields, their types and ranges. Unknown fields pass."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

_INT32, _INT64 = 2**31 - 1, 2**63 - 1

Count = Annotated[int, Field(ge=1, le=_INT32)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Text = Annotated[str, Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class StreamOptions(_Strict):
    include_usage: bool | None = None


class CommonFields(_Strict):
    """Fields of both APIs. None means absent: clients send null for what they leave out."""

    model: Text
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = None
    max_tokens: Count | None = None
    min_tokens: Annotated[int, Field(ge=0, le=_INT32)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=_INT32)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    seed: Annotated[int, Field(ge=-_INT64 - 1, le=_INT64)] | None = None
    stop: Any = None

    @field_validator("stop")
    @classmethod
    def _stop_strings(cls, value: Any) -> Any:
        strings = [value] if isinstance(value, str) else value
        if strings is not None and not (
            isinstance(strings, list)
            and len(strings) <= 16
            and all(isinstance(s, str) and s for s in strings)
        ):
            raise ValueError("must be a non-empty string or a list of at most 16 of them")
        return value


class Message(_Strict):
    role: Text


class ChatFields(CommonFields):
    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None


class CompletionFields(CommonFields):
    prompt: Any
    best_of: Literal[1] | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @field_validator("prompt")
    @classmethod
    def _one_prompt(cls, value: Any) -> Any:
        """One text, also as a list of one, or one list of token ids."""
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str | list):
            value = value[0]
        if isinstance(value, list) and value and isinstance(value[0], str | list):
            raise ValueError("must be one prompt: send several prompts as several requests")
        if not isinstance(value, str | list):
            raise ValueError("must be a string or a list of token ids")
        if not value:
            raise ValueError("must not be empty")
        if isinstance(value, list) and not all(type(token) is int and token >= 0 for token in value):
            raise ValueError("must be a string or a list of token ids")
        return value
