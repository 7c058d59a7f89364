"""One answer of a simulated engine: which tokens, and how they are streamed, with the faults of a stream."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from tandem_sim.engines import shapes
from tandem_sim.engines.faults import Fault

SOUND_TOKENS = 2
"""What a stream with a fault gives before it shows."""


@dataclass(frozen=True, slots=True)
class Generation:
    """Output token ids of each choice, all of one length, and how they leave: `per_event` at a time."""

    shape: shapes.Shape
    outputs: list[list[int]]
    finish: str
    prompt_ids: list[int]
    cached_tokens: int
    per_event: int
    streamed: bool
    resumed: int = 0

    @property
    def length(self) -> int:
        return len(self.outputs[0])


def sse() -> web.StreamResponse:
    return web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})


async def stream_error(request: web.Request, shape: shapes.Shape) -> web.StreamResponse:
    """vLLM's way to say that KV could not be loaded when a stream was asked for: a 200.

    vLLM sends a chat's role with its first token; this engine sends it before the error, as others may.
    """
    response = sse()
    await response.prepare(request)
    await response.write(shape.opening_events([]) + shapes.event(shapes.INTERNAL_ERROR) + shapes.DONE)
    return response


async def stream(
    request: web.Request,
    generation: Generation,
    fault: Fault | None,
    compute: Callable[[int], Awaitable[None]],
) -> web.StreamResponse:
    """`compute` waits until so many more tokens are there."""
    response = sse()
    await response.prepare(request)
    shape = generation.shape
    opening = shape.opening_events(generation.prompt_ids)
    if opening and not generation.resumed:
        await response.write(opening)
    for start in range(0, generation.length, generation.per_event):
        if start >= SOUND_TOKENS and await _shows(request, response, fault):
            return response
        end = min(start + generation.per_event, generation.length)
        await compute(end - start)
        finish = generation.finish if end == generation.length else None
        for index, ids in enumerate(generation.outputs):
            piece, prompt = ids[start:end], generation.prompt_ids
            await response.write(shape.token_event(index, piece, finish, first=start == 0, prompt_ids=prompt))
    if shape.wanted.usage:
        total = generation.length * len(generation.outputs) + generation.resumed
        await response.write(shape.usage_event(len(generation.prompt_ids), total, generation.cached_tokens))
    await response.write(shapes.DONE)
    return response


async def _shows(request: web.Request, response: web.StreamResponse, fault: Fault | None) -> bool:
    """Whether the fault ends the stream here."""
    if fault is Fault.LATE_ERROR:
        await response.write(shapes.event(shapes.INTERNAL_ERROR) + shapes.DONE)
    if fault is Fault.DIE_MID_STREAM and request.transport is not None:
        request.transport.close()
    if fault is Fault.GO_SILENT:
        await asyncio.Event().wait()
    return fault in (Fault.LATE_ERROR, Fault.DIE_MID_STREAM, Fault.TRUNCATE)
