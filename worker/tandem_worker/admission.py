"""Checks of a request before it enters the engine."""

from math import isfinite

from tandem_worker.errors import InvalidRequestError, RequestTooLongError
from tandem_worker.request import Request, SamplingParams


def check_request(request: Request, vocab_size: int, max_model_len: int) -> None:
    """Raises `RequestTooLongError` or `InvalidRequestError` for what can never run here."""
    prompt = request.prompt_token_ids
    if not prompt:
        raise InvalidRequestError("the prompt is empty")
    if len(prompt) >= max_model_len:
        raise RequestTooLongError(
            f"the prompt has {len(prompt)} tokens: with a new one that exceeds the maximum of {max_model_len}"
        )
    if min(prompt) < 0 or max(prompt) >= vocab_size:
        raise InvalidRequestError(
            f"the prompt has a token id outside of the vocabulary (0 to {vocab_size - 1})"
        )
    _check_sampling(request.sampling)


def _check_sampling(sampling: SamplingParams) -> None:
    checks = (
        ("max_tokens", sampling.max_tokens >= 1, "at least 1"),
        (
            "temperature",
            isfinite(sampling.temperature) and sampling.temperature >= 0,
            "finite and at least 0",
        ),
        ("top_p", 0 < sampling.top_p <= 1, "above 0 and at most 1"),
        ("top_k", sampling.top_k >= 0, "at least 0 (0: off)"),
        ("min_p", 0 <= sampling.min_p <= 1, "from 0 to 1"),
        (
            "repetition_penalty",
            isfinite(sampling.repetition_penalty) and sampling.repetition_penalty > 0,
            "above 0",
        ),
        ("presence_penalty", isfinite(sampling.presence_penalty), "finite"),
        ("frequency_penalty", isfinite(sampling.frequency_penalty), "finite"),
        ("num_logprobs", sampling.num_logprobs is None or sampling.num_logprobs >= 0, "at least 0"),
    )
    for name, valid, wanted in checks:
        if not valid:
            raise InvalidRequestError(f"{name} is {getattr(sampling, name)}: it must be {wanted}")
