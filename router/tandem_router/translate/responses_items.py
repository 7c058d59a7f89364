"""The Responses API's objects: a response, and the items of its output."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tandem_router.translate.deltas import Begun, Ended, Used
from tandem_router.translate.responses_schema import ResponsesRequest

Json = dict[str, Any]
_CUT = {"length": "max_output_tokens", "content_filter": "content_filter"}


def response(asked: ResponsesRequest, begun: Begun, output: Sequence[Json], status: str, **more: Any) -> Json:
    """The response as it is at one moment; it repeats what was asked for."""
    reasoning = asked.reasoning
    return {
        "id": f"resp_{begun.id}",
        "object": "response",
        "created_at": begun.created,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": asked.instructions,
        "max_output_tokens": asked.max_output_tokens,
        "max_tool_calls": None,
        "model": begun.model,
        "output": list(output),
        "parallel_tool_calls": asked.parallel_tool_calls is not False,
        "previous_response_id": None,
        "prompt_cache_key": asked.prompt_cache_key,
        "reasoning": {
            "effort": reasoning.effort if reasoning else None,
            "summary": reasoning.summary if reasoning else None,
        },
        "safety_identifier": asked.safety_identifier,
        "service_tier": "default",
        "store": False,
        "temperature": 1.0 if asked.temperature is None else asked.temperature,
        "text": {"format": _format(asked)},
        "tool_choice": msgspec.to_builtins(asked.tool_choice) or "auto",
        "tools": [msgspec.to_builtins(tool) for tool in asked.tools or ()],
        "top_logprobs": asked.top_logprobs or 0,
        "top_p": 1.0 if asked.top_p is None else asked.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": asked.user,
        "metadata": asked.metadata or {},
        **more,
    }


def ending(ended: Ended | None, used: Used) -> Json:
    """Status and usage of a response that is whole."""
    cut = _CUT.get(ended.reason) if ended else None
    return {
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": cut} if cut else None,
        "usage": {
            "input_tokens": used.prompt_tokens,
            "input_tokens_details": {"cached_tokens": used.cached_tokens, "cache_write_tokens": 0},
            "output_tokens": used.output_tokens,
            "output_tokens_details": {"reasoning_tokens": used.reasoning_tokens},
            "total_tokens": used.prompt_tokens + used.output_tokens,
        },
    }


def text_part(text: str, logprobs: Sequence[Mapping[str, Any]] = ()) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": list(logprobs)}


def thought_part(text: str) -> Json:
    return {"type": "reasoning_text", "text": text}


def message(identity: str, status: str, parts: Sequence[Json]) -> Json:
    return {"id": identity, "type": "message", "status": status, "role": "assistant", "content": list(parts)}


def thought(identity: str, status: str, parts: Sequence[Json]) -> Json:
    return {"id": identity, "type": "reasoning", "status": status, "summary": [], "content": list(parts)}


def call(identity: str, status: str, call_id: str, name: str, arguments: str) -> Json:
    return {
        "id": identity,
        "type": "function_call",
        "status": status,
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
    }


def _format(asked: ResponsesRequest) -> Any:
    wanted = asked.text.format if asked.text else None
    if wanted is None or wanted.type != "json_schema":
        return {"type": wanted.type if wanted else "text"}
    return {key: value for key, value in msgspec.to_builtins(wanted).items() if value is not None}
