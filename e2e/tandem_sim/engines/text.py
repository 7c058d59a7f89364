"""Prompts and the text that follows from them: a function of the prompt alone. Pure."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

EOS = "<eos>"
"""A prompt that holds this ends at its first token."""
DEFAULT_TOKENS = 16


def prompt_of(body: Mapping[str, Any]) -> str:
    """The prompt as one text; chat messages as JSON."""
    prompt = body["messages"] if "messages" in body else body["prompt"]
    return prompt if isinstance(prompt, str) else json.dumps(prompt)


def count_tokens(prompt: str) -> int:
    return len(prompt.split())


def digest_of(prompt: str) -> str:
    return hashlib.sha256(prompt.encode()).hexdigest()


def tokens_of(digest: str, count: int) -> list[str]:
    """The first `count` output tokens for the prompt with this digest: words with their leading space."""
    return [" " + hashlib.sha256(f"{digest}/{index}".encode()).hexdigest()[:5] for index in range(count)]


def output_tokens(body: Mapping[str, Any]) -> int:
    for key in ("max_completion_tokens", "max_tokens"):
        if body.get(key) is not None:
            return int(body[key])
    return DEFAULT_TOKENS
