"""One answer of a fake engine: which tokens, and how they are streamed, with the faults of a stream."""

import asyncio
from dataclasses import dataclass

from aiohttp import web

from tandem_sim.engines import shapes
from tandem_sim.engines.faults import Fault

SOUND_TOKENS = 2
"""What a stream with a fault gives before it shows."""


@dataclass(frozen=True, slots=True)
class Generation:
    """Output tokens and how they leave: `per_event` at a time, `seconds` apart."""

    shape: shapes.Shape
    tokens: list[str]
    finish: str
    prompt_tokens: int
    seconds: float
    per_event: int
    usage: bool


def sse() -> web.StreamResponse:
    return web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})


async def stream_error(request: web.Request, shape: shapes.Shape) -> web.StreamResponse:
    """vLLM's way to say that KV could not be loaded when a stream was asked for: a 200.

    vLLM sends a chat's role with its first token; this engine sends it before the error, as others may.
    """
    response = sse()
    await response.prepare(request)
    if shape.chat:
        await response.write(shape.role_event())
    await response.write(shapes.event(shapes.INTERNAL_ERROR) + shapes.DONE)
    return response


async def stream(request: web.Request, generation: Generation, fault: Fault | None) -> web.StreamResponse:
    response = sse()
    await response.prepare(request)
    if generation.shape.chat:
        await response.write(generation.shape.role_event())
    total = len(generation.tokens)
    for start in range(0, total, generation.per_event):
        if start >= SOUND_TOKENS and await _shows(request, response, fault):
            return response
        await asyncio.sleep(generation.seconds)
        end = min(start + generation.per_event, total)
        finish = generation.finish if end == total else None
        await response.write(generation.shape.token_event(generation.tokens[start:end], finish))
    if generation.usage:
        await response.write(generation.shape.usage_event(generation.prompt_tokens, total))
    await response.write(shapes.DONE)
    return response


async def _shows(request: web.Request, response: web.StreamResponse, fault: Fault | None) -> bool:
    """Whether the fault ends the stream here."""
    if fault is Fault.LATE_ERROR:
        await response.write(shapes.event(shapes.INTERNAL_ERROR) + shapes.DONE)
    if fault is Fault.DIE_MID_STREAM and request.transport is not None:
        request.transport.close()
    return fault in (Fault.LATE_ERROR, Fault.DIE_MID_STREAM, Fault.TRUNCATE)
