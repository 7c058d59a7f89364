"""The Messages API's request, as far as it can be said as a chat completion."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Name = Annotated[str, Meta(min_length=1)]


class Text(Struct, tag="text"):
    text: str


class Base64Source(Struct, tag="base64"):
    media_type: str
    data: str


class UrlSource(Struct, tag="url"):
    url: str


class TextSource(Struct, tag="text"):
    data: str


class Image(Struct, tag="image"):
    source: Base64Source | UrlSource


class Document(Struct, tag="document"):
    source: TextSource
    title: str | None = None


class Thinking(Struct, tag="thinking"):
    """Left out: a model's earlier thoughts are no part of the conversation."""

    thinking: str = ""


class RedactedThinking(Struct, tag="redacted_thinking"):
    data: str = ""


class ToolUse(Struct, tag="tool_use"):
    id: str
    name: str
    input: dict[str, Any]


class ToolResult(Struct, tag="tool_result"):
    tool_use_id: str
    content: str | list[Text | Image | Document] | None = None
    is_error: bool | None = None


Block = Text | Image | Document | Thinking | RedactedThinking | ToolUse | ToolResult


class Message(Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class Tool(Struct):
    name: Name
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None


class ToolChoice(Struct):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class ThinkingConfig(Struct):
    type: str
    budget_tokens: int | None = None


class Format(Struct):
    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(Struct):
    format: Format | None = None
    effort: str | None = None


class Metadata(Struct):
    user_id: str | None = None


class MessagesRequest(Struct):
    model: Name
    messages: Annotated[list[Message], Meta(min_length=1)]
    max_tokens: Count
    system: str | list[Text] | None = None
    stop_sequences: list[Name] | None = None
    stream: bool | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: ThinkingConfig | None = None
    output_config: OutputConfig | None = None
    metadata: Metadata | None = None
    container: Any = None
    mcp_servers: list[Any] | None = None


class CountRequest(Struct):
    """Of /v1/messages/count_tokens."""

    model: Name
    messages: Annotated[list[Message], Meta(min_length=1)]
    system: str | list[Text] | None = None
    tools: list[Tool] | None = None
