"""From a request of the Responses API to a chat completion's. Nothing is stored: it says all it needs."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from tandem_router.errors import invalid
from tandem_router.translate.bodies import read_body, unsupported
from tandem_router.translate.responses_schema import (
    Format,
    FunctionCall,
    FunctionCallOutput,
    InputImage,
    Item,
    Message,
    NamedTool,
    Part,
    Refusal,
    ResponsesRequest,
    Tool,
)

_DECODER = msgspec.json.Decoder(ResponsesRequest)
_STATEFUL = {
    "store": "nothing is stored here: leave it out or send false",
    "background": "every response is answered in the foreground",
    "previous_response_id": "nothing is stored here: send the whole conversation as input",
    "conversation": "nothing is stored here: send the whole conversation as input",
    "prompt": "there are no stored prompts here",
    "max_tool_calls": "no tool runs here",
    "context_management": "contexts are not managed here",
}
_LOGPROBS = "message.output_text.logprobs"
_INCLUDED = {_LOGPROBS, "reasoning.encrypted_content"}


class Translated(NamedTuple):
    body: dict[str, Any]
    asked: ResponsesRequest


def chat_of(data: bytes) -> Translated:
    """The chat completion's body, and what the answer repeats of the request. Raises ApiError (400)."""
    asked = read_body(data, _DECODER)
    _refuse(asked)
    given = {
        "max_completion_tokens": asked.max_output_tokens,
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "user": asked.user or asked.safety_identifier,
        "prompt_cache_key": asked.prompt_cache_key,
        "reasoning_effort": asked.reasoning.effort if asked.reasoning else None,
        "response_format": _format(asked.text.format if asked.text else None),
        **_tools(asked),
    }
    body: dict[str, Any] = {"model": asked.model, "messages": _messages(asked)}
    body |= {key: value for key, value in given.items() if value is not None}
    if asked.top_logprobs or _LOGPROBS in (asked.include or ()):
        body |= {"logprobs": True, "top_logprobs": asked.top_logprobs or 0}
    if asked.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return Translated(body, asked)


def _refuse(asked: ResponsesRequest) -> None:
    for param, why in _STATEFUL.items():
        if getattr(asked, param) not in (None, False):
            unsupported(param, why)
    if asked.truncation == "auto":
        unsupported("truncation", "a conversation that is too long is refused, not cut")
    for included in asked.include or ():
        if included not in _INCLUDED:
            unsupported("include", f"{included} is not known here")


def _messages(asked: ResponsesRequest) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = []
    if asked.instructions:
        result.append({"role": "system", "content": asked.instructions})
    if isinstance(asked.input, str):
        return [*result, {"role": "user", "content": asked.input}]
    for index, raw in enumerate(asked.input):
        _add(result, _item(raw, f"input.{index}"), f"input.{index}")
    return result


def _item(raw: dict[str, Any], place: str) -> Item:
    """A message may leave its type out."""
    try:
        item: Item = msgspec.convert({"type": "message"} | raw, Item)
    except msgspec.ValidationError as error:
        raise invalid(f"{place}: {error}", place) from error
    return item


def _add(messages: list[dict[str, Any]], item: Item, place: str) -> None:
    match item:
        case Message(role, content):
            role = "system" if role == "developer" else role
            messages.append({"role": role, "content": _content(content, place)})
        case FunctionCall(call_id, name, arguments):
            function = {"name": name, "arguments": arguments}
            if not messages or messages[-1]["role"] != "assistant":
                messages.append({"role": "assistant", "content": None})
            calls = messages[-1].setdefault("tool_calls", [])
            calls.append({"id": call_id, "type": "function", "function": function})
        case FunctionCallOutput(call_id, output):
            messages.append({"role": "tool", "tool_call_id": call_id, "content": _content(output, place)})


def _content(content: str | Iterable[Part], place: str) -> str | list[dict[str, Any]]:
    """One text as it is: not every chat template takes lists."""
    if isinstance(content, str):
        return content
    parts = [_part(part, place) for part in content]
    if all(part["type"] == "text" for part in parts) and len(parts) <= 1:
        return parts[0]["text"] if parts else ""
    return parts


def _part(part: Part, place: str) -> dict[str, Any]:
    match part:
        case InputImage():
            if part.image_url is None:
                unsupported(place, "there are no files here: send images as URLs")
            detail = {"detail": part.detail} if part.detail else {}
            return {"type": "image_url", "image_url": {"url": part.image_url, **detail}}
        case Refusal(text):
            return {"type": "text", "text": text}
    return {"type": "text", "text": part.text}


def _tools(asked: ResponsesRequest) -> dict[str, Any]:
    if not asked.tools:
        return {}
    choice: Any = asked.tool_choice
    if isinstance(choice, NamedTool):
        if choice.type != "function":
            unsupported("tool_choice", f"{choice.type} is not known here")
        choice = {"type": "function", "function": {"name": choice.name}}
    return {
        "tools": [_tool(tool, index) for index, tool in enumerate(asked.tools)],
        "tool_choice": choice,
        "parallel_tool_calls": asked.parallel_tool_calls,
    }


def _tool(tool: Tool, index: int) -> dict[str, Any]:
    if tool.type != "function":
        unsupported(f"tools.{index}.type", f"{tool.type} runs on no worker: only functions are known")
    if not tool.name:
        raise invalid(f"tools.{index}.name: Field required", f"tools.{index}.name")
    given = {"description": tool.description, "parameters": tool.parameters, "strict": tool.strict}
    function = {"name": tool.name} | {key: value for key, value in given.items() if value is not None}
    return {"type": "function", "function": function}


def _format(wanted: Format | None) -> dict[str, Any] | None:
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return {"type": "json_object"}
    if wanted.schema is None:
        raise invalid("text.format.schema: Field required", "text.format.schema")
    given = {"description": wanted.description, "strict": wanted.strict}
    schema: dict[str, Any] = {"name": wanted.name or "answer", "schema": wanted.schema}
    schema |= {key: value for key, value in given.items() if value is not None}
    return {"type": "json_schema", "json_schema": schema}
