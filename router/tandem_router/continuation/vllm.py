"""vLLM: the rest is a text completion whose prompt is all ids so far (vllm/entrypoints/openai/completion).

What depends on where the output began is not carried over, so such requests are left alone.
"""

from dataclasses import replace
from itertools import accumulate

from tandem_router.continuation.base import COMPLETION_TOKENS, Continuation, NotExactError, Rest, less
from tandem_router.continuation.emitted import Given, Plan, count_ids, joined
from tandem_router.continuation.joint import Joint
from tandem_router.json_body import JsonBody, Member, new_members
from tandem_router.openai import Api, ParsedRequest

ECHO_CHARACTERS = 32
ECHO_LETTERS = 4
"""So many different ones, or it is no evidence: a token may be a run of spaces or dashes."""

_COPIED = (
    *("model", "stream", "stream_options", "temperature", "top_p", "top_k", "min_p", "repetition_penalty"),
    *("stop", "stop_token_ids", "ignore_eos", "logit_bias", "allowed_token_ids", "skip_special_tokens"),
    *("spaces_between_special_tokens", "priority", "cache_salt", "user", "return_token_ids"),
)
_DROPPED = frozenset(
    {
        *("messages", "prompt", "max_tokens", "max_completion_tokens", "min_tokens", "n", "best_of", "seed"),
        *(
            "metadata",
            "store",
            "service_tier",
            "prompt_cache_key",
            "safety_identifier",
            "parallel_tool_calls",
        ),
        *("add_generation_prompt", "continue_final_message", "add_special_tokens", "chat_template"),
        *("chat_template_kwargs", "reasoning_effort", "truncate_prompt_tokens", "echo", "suffix"),
    }
)
_REASONS = {
    "tools": "tools",
    "functions": "tools",
    "tool_choice": "tools",
    "function_call": "tools",
    "response_format": "structured_output",
    "structured_outputs": "structured_output",
    "guided_json": "structured_output",
    "guided_regex": "structured_output",
    "guided_choice": "structured_output",
    "guided_grammar": "structured_output",
    "logprobs": "logprobs",
    "top_logprobs": "logprobs",
    "prompt_logprobs": "logprobs",
    "presence_penalty": "penalties",
    "frequency_penalty": "penalties",
}
_PLAIN = {"tool_choice": "none", "function_call": "none", "response_format": {"type": "text"}}


class Vllm(Continuation):
    def plan(self, parsed: ParsedRequest, given: Given) -> Plan:
        body = parsed.body
        _check(body)
        if any(step.said is None for step in given.steps):
            raise NotExactError("not_plain_text")
        lag = _lag(body)
        start = _cut(given, lag)
        if start is None or (start.skip and not _greedy(body)):
            raise NotExactError("stop_strings" if lag else "inside_of_a_token")
        return start

    def rest(self, parsed: ParsedRequest, plan: Plan, given: Given, room: int | None) -> Rest:
        body, done, chat = parsed.body, plan.num_output, parsed.api is Api.CHAT
        limit = less(body, "max_completion_tokens", done) if body.get("max_completion_tokens") else None
        limit = limit or less(body, "max_tokens", done, None if chat else COMPLETION_TOKENS)
        if limit is None:
            if room is None:
                raise NotExactError("length_unknown")
            limit = max(1, room - count_ids(plan.prompt) - done)
        prompt = b"[%b]" % joined(plan.prompt, plan.output)
        members = {key: Member(bytes(body.raw(key)), None) for key in _COPIED if key in body}
        members["prompt"] = Member(prompt, None)
        changed = {"max_tokens": limit, "stream": True}
        if minimum := body.get("min_tokens"):
            changed["min_tokens"] = max(0, minimum - done)
        rest = JsonBody({}).with_members(members | new_members(changed))
        joint = Joint(given.head, resumed=done, to_chat=chat, skip=plan.skip, echo=plan.echo)
        return Rest(Api.COMPLETION, rest, joint)

    def needs_room(self, parsed: ParsedRequest) -> bool:
        """A text completion without a limit gets 16 tokens, a chat all that there is room for."""
        body = parsed.body
        return parsed.api is Api.CHAT and not body.get("max_tokens") and not body.get("max_completion_tokens")


def _check(body: JsonBody) -> None:
    for key in body:
        if key in _COPIED or key in _DROPPED:
            continue
        value = body[key]
        if value and value != _PLAIN.get(key):
            raise NotExactError(_REASONS.get(key, "unknown_field"))
    if body.get("seed") is not None and not _greedy(body):
        raise NotExactError("seed")
    if _holds_media(body.get("messages")):
        raise NotExactError("media")


def _greedy(body: JsonBody) -> bool:
    return body.get("temperature") == 0


def _holds_media(messages: object) -> bool:
    contents = (
        [m.get("content") for m in messages if isinstance(m, dict)] if isinstance(messages, list) else []
    )
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return any(not isinstance(part, dict) or part.get("type") != "text" for part in parts)


def _lag(body: JsonBody) -> int:
    """By how many characters the text is behind the tokens: one less than the longest stop string has."""
    stop = body.get("stop") or []
    return max((len(s) for s in ([stop] if isinstance(stop, str) else stop)), default=1) - 1


def _cut(given: Given, lag: int) -> Plan | None:
    """The last place where the text of the tokens is known to end: after a token that completed some text.

    Tokens after it were not said yet and may come out otherwise; text after it, which the client has, must
    come again, so that only greedy requests may go back (`skip` above 0). Of an event with several tokens
    nobody knows whether the last one ended its character, and a prompt that ends inside of one makes vLLM's
    detokeniser say the whole prompt again before the rest of the character: `echo` tells. With stop strings
    that would not do, since the prompt may hold one.
    """
    said = [step.said or "" for step in given.steps]
    text, ends = "".join(said), list(accumulate(map(len, said)))
    have = max(len(text), given.start.skip) if given.start else len(text)
    ids = [given.early]
    best = replace(given.start, skip=have) if given.start else None
    for step, end in zip(given.steps, ends, strict=True):
        ids.append(step.ids)
        known = end + lag
        if step.said and known <= have:
            echo = text[:known][-ECHO_CHARACTERS:] if count_ids(step.ids) > 1 else ""
            if not echo or (not lag and _is_evidence(echo)):
                best = Plan(given.prompt, joined(*ids), have - known, echo)
    return best


def _is_evidence(echo: str) -> bool:
    """Broken characters may read otherwise when they are said again."""
    return len(set(echo)) >= ECHO_LETTERS and "\ufffd" not in echo
