"""From a request of the Messages API to a chat completion's."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from tandem_router.errors import invalid
from tandem_router.translate.bodies import compact, read_body, unsupported
from tandem_router.translate.messages_schema import (
    Base64Source,
    Block,
    Document,
    Image,
    Message,
    MessagesRequest,
    Text,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
    UrlSource,
)

_DECODER = msgspec.json.Decoder(MessagesRequest)
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def chat_of(data: bytes) -> dict[str, Any]:
    """The chat completion's body. Raises ApiError (400)."""
    asked = read_body(data, _DECODER)
    if asked.container is not None:
        unsupported("container", "there are no containers here")
    if asked.mcp_servers:
        unsupported("mcp_servers", "connect MCP servers in the client")
    body: dict[str, Any] = {"model": asked.model, "messages": chat_messages(asked.system, asked.messages)}
    body["max_tokens"] = asked.max_tokens
    given = {
        "stop": asked.stop_sequences or None,
        "temperature": asked.temperature,
        "top_p": asked.top_p or None,
        "top_k": asked.top_k or None,
        "user": asked.metadata.user_id if asked.metadata else None,
        **_tools(asked.tools, asked.tool_choice),
        **_output(asked),
    }
    body |= {key: value for key, value in given.items() if value is not None}
    if asked.stream:
        body |= {
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        }
    return body


def chat_messages(system: str | list[Text] | None, messages: Iterable[Message]) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = []
    if system:
        text = system if isinstance(system, str) else "\n\n".join(block.text for block in system)
        result.append({"role": "system", "content": text})
    for index, message in enumerate(messages):
        blocks: list[Block]
        blocks = [Text(message.content)] if isinstance(message.content, str) else message.content
        turn = _assistant if message.role == "assistant" else _user
        result += turn(blocks, message.role, f"messages.{index}")
    return result


def _user(blocks: list[Block], role: str, place: str) -> Iterator[dict[str, Any]]:
    """Results of tools become messages of their own, before what the user says beside them."""
    parts: list[dict[str, Any]] = []
    for index, block in enumerate(blocks):
        match block:
            case ToolResult():
                yield {
                    "role": "tool",
                    "tool_call_id": block.tool_use_id,
                    "content": _content(list(_parts(block.content))),
                }
            case Text() | Image() | Document():
                parts += _parts([block])
            case _:
                raise invalid(f"{place}.content.{index}: not in a {role}'s message", f"{place}.content")
    if parts or not blocks:
        yield {"role": role, "content": _content(parts)}


def _assistant(blocks: list[Block], _role: str, place: str) -> Iterator[dict[str, Any]]:
    text: list[str] = []
    calls: list[dict[str, Any]] = []
    for index, block in enumerate(blocks):
        match block:
            case Text():
                text.append(block.text)
            case ToolUse():
                function = {"name": block.name, "arguments": compact(block.input)}
                calls.append({"id": block.id, "type": "function", "function": function})
            case Image() | Document() | ToolResult():
                raise invalid(f"{place}.content.{index}: not in an assistant's message", f"{place}.content")
    message: dict[str, Any] = {"role": "assistant", "content": "".join(text) or (None if calls else "")}
    yield message | ({"tool_calls": calls} if calls else {})


def _parts(content: str | Iterable[Text | Image | Document] | None) -> Iterator[dict[str, Any]]:
    for block in [Text(content)] if isinstance(content, str) else content or ():
        match block:
            case Text():
                yield {"type": "text", "text": block.text}
            case Image(Base64Source(media_type, data)):
                url = f"data:{media_type};base64,{data}"
                yield {"type": "image_url", "image_url": {"url": url}}
            case Image(UrlSource(url)):
                yield {"type": "image_url", "image_url": {"url": url}}
            case Document():
                title = f"{block.title}\n" if block.title else ""
                yield {"type": "text", "text": title + block.source.data}


def _content(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """One text as it is: not every chat template takes lists."""
    if all(part["type"] == "text" for part in parts) and len(parts) <= 1:
        return parts[0]["text"] if parts else ""
    return parts


def _tools(tools: list[Tool] | None, choice: ToolChoice | None) -> dict[str, Any]:
    if not tools:
        return {}
    result: dict[str, Any] = {"tools": [_tool(tool, index) for index, tool in enumerate(tools)]}
    if choice is not None:
        named = {"type": "function", "function": {"name": choice.name}}
        result["tool_choice"] = _CHOICES.get(choice.type, named)
        if choice.disable_parallel_tool_use:
            result["parallel_tool_calls"] = False
    return result


def _tool(tool: Tool, index: int) -> dict[str, Any]:
    if tool.type not in (None, "custom"):
        unsupported(f"tools.{index}.type", f"{tool.type} runs on no worker: run it in the client")
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.input_schema or {"type": "object"}}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _output(asked: MessagesRequest) -> dict[str, Any]:
    result: dict[str, Any] = {}
    if asked.thinking is not None and asked.thinking.type in ("enabled", "disabled"):
        result["chat_template_kwargs"] = {"enable_thinking": asked.thinking.type == "enabled"}
    if asked.output_config is not None and asked.output_config.format is not None:
        schema = {"name": "answer", "schema": asked.output_config.format.schema, "strict": True}
        result["response_format"] = {"type": "json_schema", "json_schema": schema}
    return result
