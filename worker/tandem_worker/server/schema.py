"""The bodies of the OpenAI endpoints. Unknown keys are ignored; known but unsupported ones are refused."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tandem_worker.kv_params import KvTransferParams
from tandem_worker.server.errors import invalid

MAX_STOP_STRINGS = 16
MAX_LOGPROBS = 20
MAX_TOKENS = 2**31 - 1

TokenId = Annotated[int, Field(ge=0, le=2**31 - 1)]
StopString = Annotated[str, Field(min_length=1, max_length=1024)]
TokenLimit = Annotated[int, Field(ge=1, le=MAX_TOKENS)]


class StreamOptions(BaseModel):
    model_config = ConfigDict(strict=True)

    include_usage: bool = False


class Resume(BaseModel):
    """An answer that another worker began: ids stand for the prompt, `max_tokens` counts what is to come."""

    model_config = ConfigDict(strict=True, frozen=True)

    prompt_token_ids: Annotated[list[TokenId], Field(min_length=1)]
    token_ids: Annotated[list[TokenId], Field(min_length=1)]


class CommonBody(BaseModel):
    """What chat and text completions share. None stands for the default, as OpenAI clients send it."""

    model_config = ConfigDict(strict=True, extra="ignore")

    model: Annotated[str, Field(min_length=1)]
    n: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: TokenLimit | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=2**31 - 1)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Annotated[list[StopString], Field(max_length=MAX_STOP_STRINGS)] = []
    stop_token_ids: Annotated[list[TokenId], Field(max_length=256)] | None = None
    ignore_eos: bool | None = None
    cache_salt: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    return_token_ids: bool | None = None
    resume: Resume | None = None
    kv_transfer_params: KvTransferParams | None = None

    unsupported: ClassVar[tuple[str, ...]] = (
        "logit_bias",
        "min_tokens",
        "use_beam_search",
        "prompt_logprobs",
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_unsupported(cls, value: Any) -> Any:
        for key in cls.unsupported:
            if isinstance(value, dict) and value.get(key):
                raise invalid(f"{key} is not supported", param=key)
        return value

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value or []

    @field_validator("n")
    @classmethod
    def _one_choice(cls, value: int | None) -> int | None:
        if value not in (None, 1):
            raise invalid("only n=1 is supported", param="n")
        return value

    @model_validator(mode="after")
    def _stream_options_need_a_stream(self) -> "CommonBody":
        if self.stream_options is not None and not self.stream:
            raise invalid("stream_options are only for stream=true", param="stream_options")
        return self

    @property
    def includes_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


class CompletionBody(CommonBody):
    prompt: str | list[TokenId] | list[str] | list[list[TokenId]]
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None

    unsupported = (*CommonBody.unsupported, "echo", "suffix")

    @model_validator(mode="before")
    @classmethod
    def _one_candidate(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("best_of") not in (None, 1):
            raise invalid("only best_of=1 is supported", param="best_of")
        return value


class TextPart(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """Unknown keys go to the chat template as they are."""

    model_config = ConfigDict(strict=True, extra="allow")

    role: Annotated[str, Field(min_length=1, max_length=64)]
    content: str | list[TextPart] | None = None

    def for_template(self) -> dict[str, Any]:
        parts = self.content if isinstance(self.content, list) else None
        text = "\n".join(part.text for part in parts) if parts is not None else self.content or ""
        return {**(self.model_extra or {}), "role": self.role, "content": text}


class ChatBody(CommonBody):
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: TokenLimit | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: bool = True

    unsupported = (*CommonBody.unsupported, "tools", "functions", "audio")

    @model_validator(mode="before")
    @classmethod
    def _only_text(cls, value: Any) -> Any:
        form = value.get("response_format") if isinstance(value, dict) else None
        if form is not None and form != {"type": "text"}:
            raise invalid("the only response_format is text", param="response_format")
        return value

    @model_validator(mode="after")
    def _top_logprobs_need_logprobs(self) -> "ChatBody":
        if self.top_logprobs and not self.logprobs:
            raise invalid("top_logprobs are only for logprobs=true", param="top_logprobs")
        return self
