"""From a valid body to what the engine runs."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from tandem_wire.chat_template import ChatTemplateError
from tandem_wire.digest import prompt_digest
from tandem_worker.importer import ImportSource
from tandem_worker.request import Request, SamplingParams
from tandem_worker.server.errors import invalid
from tandem_worker.server.schema import ChatBody, CommonBody, CompletionBody
from tandem_worker.tokenizer import Tokenizer
from tandem_worker.worker import Worker

DEFAULT_COMPLETION_TOKENS = 16
MIN_TEMPERATURE = 1e-5  # below it logits overflow: greedy


@dataclass(frozen=True, slots=True)
class Job:
    """One request, ready to run. `source` is set on a decode leg, `request.hold_kv` on a prefill leg."""

    request: Request
    stop_strings: tuple[str, ...]
    source: ImportSource | None

    @property
    def prompt(self) -> tuple[int, ...]:
        """The prompt without the output of a worker before this one."""
        return self.request.prompt_token_ids[: len(self.request.prompt_token_ids) - self.request.num_resumed]

    @property
    def resumed(self) -> tuple[int, ...]:
        return self.request.prompt_token_ids[len(self.prompt) :]


async def completion_job(body: CompletionBody, request_id: str, worker: Worker, tokenizer: Tokenizer) -> Job:
    """ApiError: the prompt does not fit, or is none."""
    prompt = _resumed(body, worker) or await _completion_prompt(body.prompt, worker, tokenizer)
    room = _room(prompt, worker, "prompt")
    max_tokens = min(DEFAULT_COMPLETION_TOKENS, room) if body.max_tokens is None else body.max_tokens
    return _job(body, request_id, prompt, max_tokens, body.logprobs, worker)


async def chat_job(body: ChatBody, request_id: str, worker: Worker, tokenizer: Tokenizer) -> Job:
    """ApiError: the conversation does not fit, or the template refuses it."""
    prompt = _resumed(body, worker) or await _chat_prompt(body, tokenizer)
    room = _room(prompt, worker, "messages")
    limit = body.max_completion_tokens or body.max_tokens
    num_logprobs = (body.top_logprobs or 0) if body.logprobs else None
    return _job(body, request_id, prompt, room if limit is None else limit, num_logprobs, worker)


def _resumed(body: CommonBody, worker: Worker) -> tuple[int, ...]:
    if body.resume is None:
        return ()
    token_ids = (*body.resume.prompt_token_ids, *body.resume.token_ids)
    _check_vocabulary(token_ids, worker, "resume")
    return token_ids


async def _chat_prompt(body: ChatBody, tokenizer: Tokenizer) -> tuple[int, ...]:
    if tokenizer.chat_template is None:
        raise invalid("this model has no chat template: use /v1/completions", param="messages")
    try:
        text = tokenizer.chat_template.render(
            [message.for_template() for message in body.messages],
            body.chat_template_kwargs,
            add_generation_prompt=body.add_generation_prompt,
        )
    except ChatTemplateError as error:
        raise invalid(str(error), param="messages") from error
    return await _encode(text, tokenizer, add_special_tokens=False, param="messages")


def _job(
    body: CommonBody,
    request_id: str,
    prompt: tuple[int, ...],
    max_tokens: int,
    num_logprobs: int | None,
    worker: Worker,
) -> Job:
    params = body.kv_transfer_params
    is_prefill_leg = params is not None and params.do_remote_decode
    if is_prefill_leg and body.stream:
        raise invalid("a prefill leg cannot stream", param="stream")
    if len(prompt) + max_tokens > worker.max_model_len and not is_prefill_leg:
        raise invalid(
            f"max_tokens is {max_tokens} and the prompt has {len(prompt)} tokens: together they exceed the "
            f"model's maximum of {worker.max_model_len}",
            param="max_tokens",
            code="context_length_exceeded",
        )
    sampling = _sampling(body, 1 if is_prefill_leg else max_tokens, num_logprobs)
    _check_vocabulary(sampling.stop_token_ids, worker, "stop_token_ids")
    source = params.source(len(prompt), prompt_digest(prompt)) if params is not None else None
    if source is not None and source.seed is not None:
        _check_vocabulary([source.seed.token_id], worker, "kv_transfer_params.first_token_ids")
    num_resumed = len(body.resume.token_ids) if body.resume is not None else 0
    request = Request(
        request_id,
        prompt,
        sampling,
        hold_kv=is_prefill_leg,
        num_resumed=num_resumed,
        cache_salt=body.cache_salt or "",
    )
    return Job(request, tuple(body.stop), source)


def _sampling(body: CommonBody, max_tokens: int, num_logprobs: int | None) -> SamplingParams:
    temperature = 1.0 if body.temperature is None else body.temperature
    return SamplingParams(
        max_tokens=max_tokens,
        temperature=temperature if temperature >= MIN_TEMPERATURE else 0.0,
        top_p=1.0 if body.top_p is None else body.top_p,
        top_k=max(0, body.top_k or 0),
        min_p=body.min_p or 0.0,
        repetition_penalty=1.0 if body.repetition_penalty is None else body.repetition_penalty,
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        seed=body.seed,
        stop_token_ids=frozenset(body.stop_token_ids or ()),
        ignore_eos=bool(body.ignore_eos),
        num_logprobs=num_logprobs,
    )


async def _completion_prompt(
    prompt: str | list[int] | list[str] | list[list[int]], worker: Worker, tokenizer: Tokenizer
) -> tuple[int, ...]:
    if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int):
        if len(prompt) > 1:
            raise invalid("only one prompt for each request is supported", param="prompt")
        (prompt,) = prompt
    if not prompt:
        raise invalid("the prompt is empty", param="prompt", code="empty_prompt")
    if isinstance(prompt, str):
        return await _encode(prompt, tokenizer, add_special_tokens=True, param="prompt")
    token_ids = tuple(token_id for token_id in prompt if isinstance(token_id, int))
    _check_vocabulary(token_ids, worker, "prompt")
    return token_ids


async def _encode(
    text: str, tokenizer: Tokenizer, *, add_special_tokens: bool, param: str
) -> tuple[int, ...]:
    """On a thread: a long prompt would keep the streams of others waiting."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise invalid(f"the text is not valid Unicode: {error.reason}", param=param) from None
    token_ids = await asyncio.to_thread(tokenizer.encode, text, add_special_tokens=add_special_tokens)
    if not token_ids:
        raise invalid("the prompt is empty", param=param, code="empty_prompt")
    return tuple(token_ids)


def _room(prompt: Sequence[int], worker: Worker, param: str) -> int:
    """How many tokens may follow the prompt; at least one must."""
    room = worker.max_model_len - len(prompt)
    if room < 1:
        raise invalid(
            f"the prompt has {len(prompt)} tokens: the model's maximum, with one new token, is "
            f"{worker.max_model_len}",
            param=param,
            code="context_length_exceeded",
        )
    return room


def _check_vocabulary(token_ids: Sequence[int] | frozenset[int], worker: Worker, param: str) -> None:
    if any(token_id >= worker.vocab_size for token_id in token_ids):
        raise invalid(f"{param} has a token id over {worker.vocab_size - 1}", param=param)
