"""Log-probabilities in the two OpenAI shapes. Pure."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from tandem_worker.text import Delta
from tandem_worker.tokenizer import Tokenizer

MIN_LOGPROB = -9999.0
"""Stands for minus infinity, which JSON does not have."""


def chat_logprobs(deltas: Sequence[Delta], tokenizer: Tokenizer) -> dict[str, Any] | None:
    """None: nobody asked for them."""
    content = []
    for delta in deltas:
        if delta.logprobs is None:
            return None
        top = [_chat_entry(token_id, value, tokenizer) for token_id, value in delta.logprobs.top]
        content.append(_chat_entry(delta.token_id, delta.logprobs.sampled, tokenizer) | {"top_logprobs": top})
    return {"content": content}


def completion_logprobs(
    deltas: Sequence[Delta], tokenizer: Tokenizer, first_offset: int
) -> dict[str, Any] | None:
    """`first_offset`: characters of the tokens before. None: nobody asked for log-probabilities."""
    tokens, values, top = [], [], []
    for delta in deltas:
        if delta.logprobs is None:
            return None
        tokens.append(tokenizer.token_text(delta.token_id))
        values.append(_finite(delta.logprobs.sampled))
        ranked = [*delta.logprobs.top, (delta.token_id, delta.logprobs.sampled)]
        top.append({tokenizer.token_text(token_id): _finite(value) for token_id, value in ranked})
    offsets = list(accumulate(map(len, tokens), initial=first_offset))[:-1]
    return {"text_offset": offsets, "token_logprobs": values, "tokens": tokens, "top_logprobs": top}


def _chat_entry(token_id: int, value: float, tokenizer: Tokenizer) -> dict[str, Any]:
    token = tokenizer.token_text(token_id)
    return {"token": token, "logprob": _finite(value), "bytes": list(token.encode("utf-8"))}


def _finite(value: float) -> float:
    return max(value, MIN_LOGPROB)
