"""/v1/completions and /v1/chat/completions: run the job, say it whole or as a stream."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar
from uuid import uuid4

from aiohttp import web

from tandem_worker.kv_params import answer_params
from tandem_worker.output_stream import OutputStream
from tandem_worker.request import SeedToken
from tandem_worker.server.answers import Answer, ChatAnswer, CompletionAnswer, Header, TokenIds, Usage
from tandem_worker.server.body import parse_object, read_body, validate
from tandem_worker.server.errors import ApiError, to_api_error
from tandem_worker.server.job import Job, chat_job, completion_job
from tandem_worker.server.request_id import request_id
from tandem_worker.server.schema import ChatBody, CommonBody, CompletionBody
from tandem_worker.server.serving import SERVING, Ready
from tandem_worker.server.sse import EventStream, compact
from tandem_worker.text import Delta, TextAssembler
from tandem_worker.tokenizer import Tokenizer
from tandem_worker.worker import Worker

logger = logging.getLogger(__name__)

B = TypeVar("B", bound=CommonBody)
MakeJob = Callable[[B, str, Worker, Tokenizer], Awaitable[Job]]
MakeAnswer = Callable[[Header, Tokenizer, TokenIds], Answer]


async def completions(request: web.Request) -> web.StreamResponse:
    return await _handle(request, CompletionBody, "cmpl", completion_job, CompletionAnswer)


async def chat_completions(request: web.Request) -> web.StreamResponse:
    return await _handle(request, ChatBody, "chatcmpl", chat_job, ChatAnswer)


async def _handle(
    request: web.Request, body_type: type[B], prefix: str, make_job: MakeJob[B], make_answer: MakeAnswer
) -> web.StreamResponse:
    ready = request.app[SERVING].get()
    body = validate(body_type, parse_object(await read_body(request)))
    served = ready.worker.settings.model_name
    if body.model != served:
        message = f"the model {body.model!r} does not exist: this worker serves {served!r}"
        raise ApiError(404, message, code="model_not_found", param="model")
    response_id = f"{prefix}-{request_id(request)}"
    job = await make_job(body, f"{response_id}-{uuid4().hex[:8]}", ready.worker, ready.tokenizer)
    header = Header(response_id, int(time.time()), body.model, ready.fingerprint)
    ids = TokenIds(job.prompt if body.return_token_ids else None, job.resumed)
    answer = make_answer(header, ready.tokenizer, ids)
    async with ready.worker.run(job.request, job.source) as outputs:
        if body.stream:
            return await _stream(request, job, _deltas(job, outputs, ready), answer, body.includes_usage)
        return await _whole(job, _deltas(job, outputs, ready), answer, ready)


async def _deltas(job: Job, outputs: OutputStream, ready: Ready) -> AsyncIterator[Delta]:
    """Ends with the delta that has a finish reason, which may come before the engine's own end."""
    worker, resumed = ready.worker, job.resumed
    assembler = TextAssembler(ready.tokenizer, job.prompt, job.stop_strings, worker.eos_token_ids)
    if resumed:
        await asyncio.to_thread(assembler.replay, resumed)  # long answers would keep other streams waiting
    async for output in outputs:
        delta = assembler.push(output)
        if delta.num_output_tokens == len(resumed) + 1 and job.source is None:
            worker.metrics.prefix_hit(delta.num_cached_tokens)
        yield delta
        if delta.finish_reason is not None:
            return


async def _whole(job: Job, deltas: AsyncIterator[Delta], answer: Answer, ready: Ready) -> web.Response:
    collected = [delta async for delta in deltas]
    kv_params = await _keep(job, collected, ready) if job.request.hold_kv else None
    body = answer.whole(collected, _usage(job, collected[-1]), kv_params)
    return web.json_response(body, dumps=compact)


async def _stream(
    request: web.Request, job: Job, deltas: AsyncIterator[Delta], answer: Answer, include_usage: bool
) -> web.StreamResponse:
    """Nothing is sent before the first token is there: until then an error is a plain answer."""
    delta = await anext(deltas)
    events = await EventStream.open(request)
    try:
        await events.send(*answer.chunks(delta))
        async for delta in deltas:
            await events.send(*answer.chunks(delta))
        if include_usage:
            await events.send(answer.usage_chunk(_usage(job, delta)))
    except ConnectionError:
        raise
    except Exception as error:
        logger.warning("request %s ended in the middle: %s", job.request.request_id, error)
        await events.send(to_api_error(error).body())
    return await events.close()


async def _keep(job: Job, deltas: list[Delta], ready: Ready) -> dict[str, Any]:
    kept = await ready.worker.keep(job.request)
    return answer_params(
        handle=job.request.request_id,
        held=kept.held,
        engine_id=ready.worker.engine_id,
        host=ready.worker.settings.advertise_host,
        port=ready.kv_port,
        expires_at=kept.expires_at,
        num_cached_tokens=deltas[0].num_cached_tokens,
        first_tokens=[SeedToken(delta.token_id, delta.logprobs) for delta in deltas],
    )


def _usage(job: Job, last: Delta) -> Usage:
    """On a decode leg, cached is what the prefill worker had cached: all else was computed there."""
    num_cached = last.num_cached_tokens if job.source is None else job.source.num_cached_tokens
    return Usage(len(job.prompt), last.num_output_tokens, num_cached)
