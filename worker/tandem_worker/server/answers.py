"""The bodies of answers, whole and in chunks, with vLLM's fields in vLLM's order. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tandem_worker.server.logprobs import chat_logprobs, completion_logprobs
from tandem_worker.text import Delta
from tandem_worker.tokenizer import Tokenizer

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Usage:
    """`num_cached_tokens`: prompt tokens that no worker had to compute for this request."""

    num_prompt_tokens: int
    num_output_tokens: int
    num_cached_tokens: int

    def body(self) -> JsonObject:
        return {
            "prompt_tokens": self.num_prompt_tokens,
            "total_tokens": self.num_prompt_tokens + self.num_output_tokens,
            "completion_tokens": self.num_output_tokens,
            "prompt_tokens_details": {"cached_tokens": self.num_cached_tokens},
        }


@dataclass(frozen=True, slots=True)
class Header:
    """What all bodies of one answer begin and end with. `created` is Unix time."""

    response_id: str
    created: int
    model: str
    fingerprint: str

    def open(self, kind: str) -> JsonObject:
        return {"id": self.response_id, "object": kind, "created": self.created, "model": self.model}

    def chunk(self, kind: str, choices: list[JsonObject]) -> JsonObject:
        return self.open(kind) | {"choices": choices}

    def usage_chunk(self, kind: str, usage: Usage) -> JsonObject:
        return self.chunk(kind, []) | {"usage": usage.body(), "system_fingerprint": self.fingerprint}

    def whole(self, kind: str, choice: JsonObject, usage: Usage, kv_params: JsonObject | None) -> JsonObject:
        return self.open(kind) | {
            "choices": [choice],
            "service_tier": None,
            "system_fingerprint": self.fingerprint,
            "usage": usage.body(),
            "kv_transfer_params": kv_params,
        }


class TokenIds:
    """What `return_token_ids` shows: the prompt's ids once, and those of tokens that no chunk has shown yet.

    `prompt` None: nobody asked, all is null. `resumed`: output of another worker, which has shown it.
    """

    def __init__(self, prompt: Sequence[int] | None, resumed: Sequence[int] = ()) -> None:
        self.resumed = resumed
        self._prompt = prompt
        self._wanted = prompt is not None
        self._unseen: list[int] = []

    def add(self, *deltas: Delta) -> None:
        self._unseen += [delta.token_id for delta in deltas]

    def take(self) -> list[int] | None:
        taken, self._unseen = self._unseen, []
        return taken if self._wanted else None

    def take_prompt(self) -> list[int] | None:
        taken, self._prompt = self._prompt, None
        return None if taken is None else list(taken)


class Answer(Protocol):
    """One endpoint's way to say what was generated."""

    def chunks(self, delta: Delta) -> list[JsonObject]:
        """The events for the next token: none while its text is held back."""

    def usage_chunk(self, usage: Usage) -> JsonObject: ...

    def whole(self, deltas: Sequence[Delta], usage: Usage, kv_params: JsonObject | None) -> JsonObject: ...


class CompletionAnswer:
    """/v1/completions. Log-probabilities count their text offsets from the start of the answer."""

    def __init__(self, header: Header, tokenizer: Tokenizer, ids: TokenIds) -> None:
        self._header = header
        self._tokenizer = tokenizer
        self._ids = ids
        self._num_characters: int | None = None

    def chunks(self, delta: Delta) -> list[JsonObject]:
        self._ids.add(delta)
        if not (delta.text or delta.finish_reason or delta.logprobs):
            return []
        choice = self._choice([delta]) | {
            "prompt_token_ids": self._ids.take_prompt(),
            "token_ids": self._ids.take(),
        }
        chunk = self._header.chunk("text_completion", [choice])
        return [chunk | _ending(delta, self._header)]

    def usage_chunk(self, usage: Usage) -> JsonObject:
        return self._header.usage_chunk("text_completion", usage)

    def whole(self, deltas: Sequence[Delta], usage: Usage, kv_params: JsonObject | None) -> JsonObject:
        self._ids.add(*deltas)
        choice = self._choice(deltas) | {
            "token_ids": self._ids.take(),
            "prompt_logprobs": None,
            "prompt_token_ids": self._ids.take_prompt(),
        }
        return self._header.whole("text_completion", choice, usage, kv_params)

    def _choice(self, deltas: Sequence[Delta]) -> JsonObject:
        return {
            "index": 0,
            "text": "".join(delta.text for delta in deltas),
            "logprobs": self._logprobs(deltas) if deltas[0].logprobs is not None else None,
            "finish_reason": deltas[-1].finish_reason,
            "stop_reason": deltas[-1].stop,
        }

    def _logprobs(self, deltas: Sequence[Delta]) -> JsonObject | None:
        if self._num_characters is None:
            self._num_characters = sum(len(self._tokenizer.token_text(id_)) for id_ in self._ids.resumed)
        logprobs = completion_logprobs(deltas, self._tokenizer, self._num_characters)
        self._num_characters += sum(len(token) for token in (logprobs or {}).get("tokens", ()))
        return logprobs


class ChatAnswer:
    """/v1/chat/completions. The role goes before the first token, unless the answer has begun elsewhere."""

    def __init__(self, header: Header, tokenizer: Tokenizer, ids: TokenIds) -> None:
        self._header = header
        self._tokenizer = tokenizer
        self._ids = ids
        self._has_begun = bool(ids.resumed)

    def chunks(self, delta: Delta) -> list[JsonObject]:
        self._ids.add(delta)
        chunks = []
        if not self._has_begun:
            self._has_begun = True
            role = {"role": "assistant", "content": ""}
            opening = {"index": 0, "delta": role, "logprobs": None, "finish_reason": None}
            prompt = {"prompt_token_ids": self._ids.take_prompt()}
            chunks.append(self._header.chunk("chat.completion.chunk", [opening]) | prompt)
        if delta.text or delta.finish_reason or delta.logprobs:
            chunks.append(self._chunk(delta))
        return chunks

    def usage_chunk(self, usage: Usage) -> JsonObject:
        return self._header.usage_chunk("chat.completion.chunk", usage)

    def whole(self, deltas: Sequence[Delta], usage: Usage, kv_params: JsonObject | None) -> JsonObject:
        self._ids.add(*deltas)
        message = {
            "role": "assistant",
            "content": "".join(delta.text for delta in deltas),
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
        }
        choice = {
            "index": 0,
            "message": message,
            "logprobs": chat_logprobs(deltas, self._tokenizer),
            "finish_reason": deltas[-1].finish_reason,
            "stop_reason": deltas[-1].stop,
            "token_ids": self._ids.take(),
        }
        whole = self._header.whole("chat.completion", choice, usage, kv_params)
        return whole | {"prompt_token_ids": self._ids.take_prompt()}

    def _chunk(self, delta: Delta) -> JsonObject:
        choice: JsonObject = {
            "index": 0,
            "delta": {"content": delta.text},
            "logprobs": chat_logprobs([delta], self._tokenizer),
            "finish_reason": delta.finish_reason,
        }
        if delta.finish_reason is not None:
            choice["stop_reason"] = delta.stop
        choice["token_ids"] = self._ids.take()
        return self._header.chunk("chat.completion.chunk", [choice]) | _ending(delta, self._header)


def _ending(delta: Delta, header: Header) -> JsonObject:
    return {"system_fingerprint": header.fingerprint} if delta.finish_reason is not None else {}
