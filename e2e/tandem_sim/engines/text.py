"""Prompts as token ids, and the text that follows from them. Pure.

A token is a word, its id follows from the word, and each next token from all ids before it: a request gives
the same text wherever it runs, and a prompt that ends with the first words of its answer gives its rest.
"""

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

EOS = "<eos>"
"""A prompt that holds this ends at its first token."""
DEFAULT_TOKENS = 16

_MODULUS = 2**61 - 1
_FACTOR = 1_103_515_245_123
_OUTPUT_IDS = 2**20
_HEX = frozenset("0123456789abcdef")


def prompts_of(body: Mapping[str, Any]) -> list[Any]:
    """The prompts as they stand: text or token ids; the messages of a chat as JSON."""
    if "messages" in body:
        return [json.dumps(body["messages"])]
    prompt = body["prompt"]
    return prompt if isinstance(prompt, list) and prompt and isinstance(prompt[0], str | list) else [prompt]


def token_ids(prompt: str | Sequence[int]) -> list[int]:
    """One id for each word; ids stay as they are. Words of output tokens have the ids of those tokens."""
    return [token_id(word) for word in prompt.split()] if isinstance(prompt, str) else list(prompt)


def token_id(word: str) -> int:
    if len(word) == 5 and _HEX.issuperset(word):
        return int(word, 16)
    return _OUTPUT_IDS + (zlib.crc32(word.encode()) & 0x3FFFFFFF)


def count_tokens(prompt: str | Sequence[int]) -> int:
    return len(prompt.split() if isinstance(prompt, str) else prompt)


def digest_of(prompt: str | Sequence[int]) -> str:
    """What the KV of a prompt stands for."""
    return f"{_fold(0, token_ids(prompt)):x}"


def ids_after(digest: str, count: int) -> list[int]:
    """The first `count` output tokens for the prompt with this digest."""
    state, found = int(digest, 16), []
    for _ in range(count):
        found.append((state * 0x9E3779B97F4A7C15 >> 20) % _OUTPUT_IDS)
        state = _fold(state, found[-1:])
    return found


def word_of(output_id: int) -> str:
    """An output token's text: a word with its leading space."""
    return f" {output_id:05x}"


def tokens_of(digest: str, count: int) -> list[str]:
    return [word_of(token) for token in ids_after(digest, count)]


def ends_at_once(ids: Sequence[int], body: Mapping[str, Any]) -> bool:
    return token_id(EOS) in ids and not body.get("ignore_eos")


def output_tokens(body: Mapping[str, Any]) -> int:
    for key in ("max_completion_tokens", "max_tokens"):
        if body.get(key) is not None:
            return int(body[key])
    return DEFAULT_TOKENS


def _fold(state: int, ids: Iterable[int]) -> int:
    for each in ids:
        state = (state * _FACTOR + each + 1) % _MODULUS
    return state
