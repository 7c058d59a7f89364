"""A simulated engine: HTTP manners in front of a hand-over protocol and a device that takes time."""

import asyncio
import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any
from uuid import uuid4

import aiohttp
from aiohttp import web

from tandem_sim.engines import shapes
from tandem_sim.engines.changes import Changes
from tandem_sim.engines.compute import BusyError, Compute
from tandem_sim.engines.engine_metrics import Gauges, render
from tandem_sim.engines.faults import Fault, FaultQueue
from tandem_sim.engines.generation import Generation, stream, stream_error
from tandem_sim.engines.kv import KvStore
from tandem_sim.engines.kv_events import Publisher
from tandem_sim.engines.prefix_cache import CacheEvent, PrefixCache
from tandem_sim.engines.protocols import PROTOCOLS
from tandem_sim.engines.protocols.base import Ask, HandOver, LoadFailedError, RefusedError, Site
from tandem_sim.engines.settings import Settings
from tandem_sim.engines.text import digest_of, ends_at_once, ids_after, output_tokens, prompts_of, token_ids
from tandem_wire.kv_pb2 import Load

REMEMBERED_REQUESTS = 1000
GARBAGE = "5eed"
"""What the blocks of freed KV stand for by now."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it arrived; header names in lower case."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class Stats:
    """Requests by what became of them. `running`: not ended yet; `aborted`: the client went away."""

    running: int = 0
    finished: int = 0
    aborted: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0


class SimEngine:
    """One worker's state and handlers; `running` in `server.py` gives it its ports."""

    def __init__(self, settings: Settings, session: aiohttp.ClientSession) -> None:
        self.settings = settings
        self.faults = FaultQueue()
        self.seen: deque[Seen] = deque(maxlen=REMEMBERED_REQUESTS)
        self.stats = Stats()
        self.changes = Changes()
        self._clock = asyncio.get_running_loop().time
        self.kv = KvStore(uuid4().hex, self._clock, self.changes)
        self.compute = Compute(settings, self.changes.notify)
        self.cache = PrefixCache(settings.block_size, settings.kv_tokens // settings.block_size)
        self.site = Site(settings, session, self.kv, settings.port, settings.bootstrap_port, settings.port)
        self.hand_over: HandOver = PROTOCOLS[settings.protocol](self.site)
        self.publisher: Publisher | None = None
        self.kill: Callable[[], None] = self.restart
        self._ready_at = self._clock() + settings.start_seconds

    @property
    def port(self) -> int:
        return self.site.port

    async def until(self, condition: Callable[[], bool]) -> None:
        """Returns when `condition` holds; it is looked at after each change of requests and handles."""
        await self.changes.until(condition)

    def restart(self) -> None:
        """Another run: a new engine id, and no KV of the old one."""
        self.kv.forget(uuid4().hex)
        self._publish(self.cache.clear())

    def load(self) -> Load:
        """What the native protocol tells of a worker."""
        block_size, compute = self.settings.block_size, self.compute
        return Load(
            num_running=compute.running,
            num_waiting=compute.waiting,
            kv_blocks_used=compute.kv_used // block_size,
            kv_blocks_total=self.settings.kv_tokens // block_size,
            num_leases=len(self.kv.leases),
        )

    def application(self) -> web.Application:
        app = web.Application(client_max_size=2**30)
        app.router.add_post("/v1/completions", self.generate)
        app.router.add_post("/v1/chat/completions", self.generate)
        app.router.add_post("/v1/embeddings", self.embed)
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/health", self.health)
        app.router.add_get("/metrics", self.metrics)
        app.router.add_get("/sim/stats", self.report)
        app.router.add_post("/sim/faults", self.inject)
        app.router.add_post("/sim/restart", self.restart_asked)
        app.router.add_routes(self.hand_over.routes())
        return app

    def bootstrap_application(self) -> web.Application:
        app = web.Application()
        app.router.add_routes(self.hand_over.bootstrap_routes())
        return app

    async def generate(self, request: web.Request) -> web.StreamResponse:
        self.stats.running += 1
        try:
            seen = Seen(request.path, _lowered(request.headers), await request.read())
            self.seen.append(seen)
            self.changes.notify()
            response = await self._answer(request, seen)
            self.stats.finished += 1
            return response
        except (asyncio.CancelledError, ConnectionResetError):
            self.stats.aborted += 1
            raise
        finally:
            self.stats.running -= 1
            self.changes.notify()

    async def embed(self, request: web.Request) -> web.Response:
        body = await request.json()
        given = body["input"]
        inputs = [given] if isinstance(given, str) or (given and isinstance(given[0], int)) else given
        data = [
            {"object": "embedding", "index": index, "embedding": [_unit(digest_of(each)), 0.5]}
            for index, each in enumerate(inputs)
        ]
        used = sum(len(token_ids(each)) for each in inputs)
        counts = {"prompt_tokens": used, "total_tokens": used}
        answer = {"object": "list", "model": self.settings.model, "data": data, "usage": counts}
        return web.json_response(answer)

    async def models(self, _request: web.Request) -> web.Response:
        model = {
            "id": self.settings.model,
            "object": "model",
            "created": 0,
            "owned_by": "tandem",
            "max_model_len": self.settings.max_model_len,
        }
        return web.json_response({"object": "list", "data": [model]})

    async def health(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n") if self._started else _starting()

    async def metrics(self, _request: web.Request) -> web.Response:
        gauges = Gauges(
            running=self.compute.running,
            waiting=self.compute.waiting,
            kv_used=self.compute.kv_used,
            kv_tokens=self.settings.kv_tokens,
            block_size=self.settings.block_size,
            prompt_tokens=self.stats.prompt_tokens,
            output_tokens=self.stats.output_tokens,
            queried_tokens=self.cache.queried_tokens,
            hit_tokens=self.cache.hit_tokens,
            expired=self.kv.stats()["expired"],
        )
        return web.Response(text=render(self.settings.protocol, self.settings.model, gauges))

    async def report(self, _request: web.Request) -> web.Response:
        requests = {key: asdict(self.stats)[key] for key in ("running", "finished", "aborted")}
        return web.json_response({"requests": requests, "handles": self.kv.stats()})

    async def inject(self, request: web.Request) -> web.Response:
        asked = await request.json()
        self.faults.inject(Fault(asked["fault"]), int(asked.get("times", 1)))
        return web.Response(status=204)

    async def restart_asked(self, _request: web.Request) -> web.Response:
        self.restart()
        return web.Response(status=204)

    @property
    def _started(self) -> bool:
        return self._clock() >= self._ready_at

    async def _answer(self, request: web.Request, seen: Seen) -> web.StreamResponse:
        fault = self.faults.take()
        body = seen.json()
        answer = await self._misbehave(request, body, fault)
        if answer is not None:
            return answer
        prompts = prompts_of(body)
        ids = _resumed(body) or [token for prompt in prompts for token in token_ids(prompt)]
        request_id = seen.headers.get("x-request-id") or uuid4().hex
        sequences = len(prompts) * (body.get("n") or 1)
        ask = Ask(body, seen.headers, request_id, ids, digest_of(ids), "messages" in body, sequences)
        if len(ids) + output_tokens(body) > self.settings.max_model_len:
            return _too_long(self.settings.max_model_len)
        try:
            return await self._run(request, ask, fault)
        except RefusedError as error:
            return web.json_response(shapes.error(str(error), "BadRequestError", 400), status=400)
        except BusyError:
            return _busy()
        except LoadFailedError:
            return await self._load_failed(request, body)

    async def _run(self, request: web.Request, ask: Ask, fault: Fault | None) -> web.StreamResponse:
        leg = self.hand_over.leg(ask)
        if (leg == "prefill") != (self.settings.role == "prefill"):
            message = f"a {self.settings.role} worker got the other leg"
            return web.json_response(shapes.error(message, "InternalServerError", 500), status=500)
        count = 1 if leg == "prefill" or ends_at_once(ask.ids, ask.body) else output_tokens(ask.body)
        async with self.compute.place(len(ask.ids) + count):
            if leg == "prefill":
                return await self._prefill(request, ask, fault)
            digest, cached = await self._load(ask, fault) if leg == "decode" else await self._compute(ask)
            return await self._decode(request, self._generation(ask, digest, count, cached), fault)

    async def _misbehave(
        self, request: web.Request, body: Mapping[str, Any], fault: Fault | None
    ) -> web.StreamResponse | None:
        if fault is Fault.HANG:
            await asyncio.Event().wait()
        if fault is Fault.DIE and request.transport is not None:
            request.transport.close()
            await asyncio.Event().wait()
        if fault is Fault.ERROR:
            return web.json_response(shapes.INTERNAL_ERROR, status=500)
        if fault is Fault.BUSY:
            return _busy()
        if fault is Fault.STREAM_ERROR:
            return await self._load_failed(request, body)
        return None if self._started else _starting()

    async def _load_failed(self, request: web.Request, body: Mapping[str, Any]) -> web.StreamResponse:
        if body.get("stream") and self.hand_over.error_in_stream:
            return await stream_error(request, shapes.Shape("messages" in body, "0", self.settings.model))
        status, code = self.hand_over.load_failed_status, self.hand_over.load_failed_code
        error = shapes.error("Internal server error", "InternalServerError", code)
        return web.json_response(error, status=status)

    async def _prefill(self, request: web.Request, ask: Ask, fault: Fault | None) -> web.StreamResponse:
        _, cached = await self._compute(ask)
        generation = self._generation(ask, ask.digest, 1, cached)
        extras: Mapping[str, Any] = {}
        complete = generation.finish == "length" or self.hand_over.keeps_stopped
        if self.settings.hands_over and complete and fault is not Fault.NO_PARAMS:
            extras = await self._keep(ask, fault)
        if ask.body.get("stream"):
            return await stream(request, generation, fault, self.compute.tokens)
        response = self._whole(generation, extras)
        if fault is Fault.KILLED_AFTER_PREFILL:
            await response.prepare(request)
            await response.write_eof()
            self.kill()
        return response

    async def _keep(self, ask: Ask, fault: Fault | None) -> Mapping[str, Any]:
        known = set(self.kv.leases)
        seconds = 0.0 if fault is Fault.EXPIRED else self.settings.lease_seconds
        extras = await self.hand_over.keep(ask, seconds)
        if fault is Fault.LOST_KV:
            for handle in set(self.kv.leases) - known:
                self.kv.end(handle, pulled=False)
        return extras

    async def _load(self, ask: Ask, fault: Fault | None) -> tuple[str, int]:
        """The digest that the output follows from, and how many tokens to report as cached."""
        slow = self.settings.slow_seconds
        await asyncio.sleep(slow if fault is Fault.LATE_PULL else 0.0)
        try:
            digest = await self.hand_over.load(ask)
        except LoadFailedError:
            if self.settings.on_load_failure == "fail":
                raise
            return await self._compute(ask)
        await asyncio.sleep(self._link_seconds(len(ask.ids)) + (slow if fault is Fault.SLOW_LINK else 0.0))
        self._publish(self._cached(ask))
        return digest or GARBAGE, len(ask.ids) - 1 if self.settings.prefix_cache else 0

    def _link_seconds(self, tokens: int) -> float:
        latency = self.settings.latency
        if latency is None:
            return self.settings.link_seconds
        return self.settings.link_seconds + latency.transfer.seconds(
            tokens * self.settings.kv_bytes_per_token
        )

    async def _compute(self, ask: Ask) -> tuple[str, int]:
        """The prompt's own digest, and how many of its tokens were cached."""
        cached = self.cache.look(ask.ids) if self.settings.prefix_cache else 0
        await self.compute.prefill(len(ask.ids) - cached, cached)
        self.stats.prompt_tokens += len(ask.ids)
        self._publish(self._cached(ask))
        return ask.digest, cached

    def _cached(self, ask: Ask) -> list[CacheEvent]:
        return self.cache.store(ask.ids) if self.settings.prefix_cache else []

    def _publish(self, events: list[CacheEvent]) -> None:
        if self.publisher is not None:
            self.publisher.publish(events)

    async def _decode(
        self, request: web.Request, generation: Generation, fault: Fault | None
    ) -> web.StreamResponse:
        async with self.compute.batch():
            if generation.streamed:
                response = await stream(request, generation, fault, self.compute.tokens)
            else:
                await self.compute.tokens(generation.length)
                response = self._whole(generation, {})
        self.stats.output_tokens += generation.length
        return response

    def _whole(self, generation: Generation, extras: Mapping[str, Any]) -> web.Response:
        return web.json_response(
            generation.shape.whole(
                generation.outputs, generation.finish, generation.prompt_ids, generation.cached_tokens, extras
            )
        )

    def _generation(self, ask: Ask, digest: str, count: int, cached: int) -> Generation:
        shape = shapes.Shape(ask.chat, ask.request_id, self.settings.model, shapes.wanted_of(ask.body))
        resume = ask.body.get("resume")
        return Generation(
            shape=shape,
            outputs=_outputs(ask, digest, count),
            finish="stop" if ends_at_once(ask.ids, ask.body) else "length",
            prompt_ids=resume["prompt_token_ids"] if resume else ask.ids,
            resumed=len(resume["token_ids"]) if resume else 0,
            cached_tokens=cached,
            per_event=self.settings.tokens_per_event,
            streamed=bool(ask.body.get("stream")),
        )


def _lowered(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _resumed(body: Mapping[str, Any]) -> list[int]:
    """The native worker's `resume`: a prompt and the tokens of its answer so far."""
    resume = body.get("resume")
    return [*resume["prompt_token_ids"], *resume["token_ids"]] if resume else []


def _outputs(ask: Ask, digest: str, count: int) -> list[list[int]]:
    """For each prompt its choices, which are all the same; other KV than the prompts' gives garbage."""
    prompts = prompts_of(ask.body)
    sound = len(prompts) > 1 and digest == ask.digest
    digests = [digest_of(prompt) for prompt in prompts] if sound else [digest] * len(prompts)
    return [ids_after(each, count) for each in digests for _ in range(ask.sequences // len(prompts))]


def _unit(digest: str) -> float:
    return int(digest, 16) / 2**61


def _busy() -> web.Response:
    return web.json_response(shapes.error("busy", "RateLimitError", 429), status=429)


def _starting() -> web.Response:
    error = shapes.error("the engine is starting", "ServiceUnavailable", 503)
    return web.json_response(error, status=503, headers={"retry-after": "1"})


def _too_long(limit: int) -> web.Response:
    message = f"This model's maximum context length is {limit} tokens."
    error = shapes.error(message, "invalid_request_error", "context_length_exceeded")
    return web.json_response(error, status=400)
