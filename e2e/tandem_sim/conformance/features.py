"""The features that are asked for, as data: a request, and how its answer shows that it was honoured."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
Check = Callable[[Any, str], bool]

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
RESPONSES, MESSAGES, EMBEDDINGS = "/v1/responses", "/v1/messages", "/v1/embeddings"
TOKENS = 4

_SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
_TOOL = {"type": "function", "function": {"name": "find", "parameters": _SCHEMA}}
_FORMAT = {"type": "json_schema", "json_schema": {"name": "city", "schema": _SCHEMA}}
_STREAM = {"stream": True}
_USAGE = {"stream": True, "stream_options": {"include_usage": True}}


def _anything(_answer: Any, _prompt: str) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Feature:
    """`check` sees the answer (a list of events if it is streamed) and the prompt."""

    name: str
    path: str
    more: Mapping[str, Any] = field(default_factory=dict)
    check: Check = _anything
    ends_at_once: bool = False
    prompts: int = 1

    @property
    def streamed(self) -> bool:
        return bool(self.more.get("stream"))


def body_of(feature: Feature, model: str, prompt: str) -> Json:
    text: Any = [f"{prompt} {index}" for index in range(feature.prompts)] if feature.prompts > 1 else prompt
    turn = [{"role": "user", "content": text}]
    asked: Json = {
        CHAT: {"messages": turn, "max_tokens": TOKENS, "temperature": 0},
        TEXT: {"prompt": text, "max_tokens": TOKENS, "temperature": 0},
        RESPONSES: {"input": text, "max_output_tokens": TOKENS, "temperature": 0},
        MESSAGES: {"messages": turn, "max_tokens": TOKENS, "temperature": 0},
        EMBEDDINGS: {"input": text},
    }[feature.path]
    return {"model": model, **asked, **feature.more}


def _choices(number: int) -> Check:
    return lambda answer, _: {choice["index"] for choice in _all_choices(answer)} == set(range(number))


def _all_choices(answer: Any) -> list[Json]:
    events = answer if isinstance(answer, list) else [answer]
    return [choice for event in events for choice in event.get("choices", ())]


def _calls(answer: Any, _prompt: str) -> bool:
    said = [choice.get("message") or choice["delta"] for choice in _all_choices(answer)]
    return any(message.get("tool_calls") for message in said)


def _has_logprobs(answer: Any, _prompt: str) -> bool:
    return any(choice["logprobs"] for choice in _all_choices(answer))


def _echoes(answer: Any, prompt: str) -> bool:
    return bool(_all_choices(answer)[0]["text"].startswith(prompt))


def _tells_usage(answer: Any, _prompt: str) -> bool:
    return any((event.get("usage") or {}).get("completion_tokens") == TOKENS for event in answer)


def _ended_at_once(answer: Any, _prompt: str) -> bool:
    return bool(answer["usage"]["completion_tokens"] == 1)


FEATURES = (
    Feature("chat completions", CHAT),
    Feature("chat completions, streamed", CHAT, _STREAM),
    Feature("completions", TEXT),
    Feature("completions, streamed", TEXT, _STREAM),
    Feature("responses", RESPONSES),
    Feature("responses, streamed", RESPONSES, _STREAM),
    Feature("Anthropic messages", MESSAGES),
    Feature("Anthropic messages, streamed", MESSAGES, _STREAM),
    Feature("embeddings", EMBEDDINGS, check=lambda answer, _: bool(answer["data"][0]["embedding"])),
    Feature("usage in streams", CHAT, _USAGE, _tells_usage),
    Feature("tools", CHAT, {"tools": [_TOOL]}, _calls),
    Feature("tools, streamed", CHAT, {"tools": [_TOOL], **_STREAM}, _calls),
    Feature("tool_choice required", CHAT, {"tools": [_TOOL], "tool_choice": "required"}, _calls),
    Feature("structured output", CHAT, {"response_format": _FORMAT}),
    Feature("logprobs (chat)", CHAT, {"logprobs": True, "top_logprobs": 1}, _has_logprobs),
    Feature("logprobs (completions)", TEXT, {"logprobs": 1}, _has_logprobs),
    Feature("n > 1", CHAT, {"n": 2}, _choices(2)),
    Feature("n > 1, streamed", CHAT, {"n": 2, **_STREAM}, _choices(2)),
    Feature("best_of", TEXT, {"best_of": 2}),
    Feature("batched prompts", TEXT, check=_choices(2), prompts=2),
    Feature("echo", TEXT, {"echo": True}, _echoes),
    Feature("echo with logprobs", TEXT, {"echo": True, "logprobs": 1}, _echoes),
    Feature("prompt_logprobs", TEXT, {"prompt_logprobs": 1}),
    Feature("stop strings", TEXT, {"stop": ["\u0000\u0001"]}),
    Feature("seed", TEXT, {"seed": 7}),
    Feature("min_tokens", TEXT, {"min_tokens": 2}),
    Feature("ignore_eos", TEXT, {"ignore_eos": True}),
    Feature("end at the first token", TEXT, check=_ended_at_once, ends_at_once=True),
)
