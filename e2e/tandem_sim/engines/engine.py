"""The fake engine: vLLM's HTTP manners in front of a KV store."""

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any
from uuid import uuid4

import aiohttp
from aiohttp import web

from tandem_sim.engines import shapes
from tandem_sim.engines.faults import Fault, FaultQueue
from tandem_sim.engines.generation import Generation, stream, stream_error
from tandem_sim.engines.kv import KvGoneError, KvStore
from tandem_sim.engines.pull import LoadFailedError, pull_native, pull_vllm
from tandem_sim.engines.settings import Settings
from tandem_sim.engines.text import EOS, count_tokens, digest_of, output_tokens, prompt_of, tokens_of

REMEMBERED_REQUESTS = 1000
GARBAGE = "what the blocks of freed KV hold by now"


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


class SimEngine:
    """One worker's state and handlers; `running` in `server.py` gives it its ports."""

    def __init__(self, settings: Settings, session: aiohttp.ClientSession) -> None:
        self.settings = settings
        self.port = self.kv_port = settings.port
        self.faults = FaultQueue(deque())
        self.seen: deque[Seen] = deque(maxlen=REMEMBERED_REQUESTS)
        self.stats = Stats()
        self.kv = KvStore(uuid4().hex, asyncio.get_running_loop().time, self._notify)
        self._session = session
        self._waiters: list[asyncio.Future[None]] = []

    async def until(self, condition: Callable[[], bool]) -> None:
        """Returns when `condition` holds; it is looked at after each change of requests and handles."""
        while not condition():
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def _notify(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def application(self) -> web.Application:
        app = web.Application(client_max_size=2**30)
        app.router.add_post("/v1/completions", self.generate)
        app.router.add_post("/v1/chat/completions", self.generate)
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/health", self.health)
        app.router.add_post("/fake/pull", self.pull)
        app.router.add_get("/fake/stats", self.report)
        app.router.add_post("/fake/faults", self.inject)
        return app

    async def generate(self, request: web.Request) -> web.StreamResponse:
        self.stats.running += 1
        try:
            seen = Seen(request.path, _lowered(request.headers), await request.read())
            self.seen.append(seen)
            self._notify()
            response = await self._generate(request, seen.json())
            self.stats.finished += 1
            return response
        except (asyncio.CancelledError, ConnectionResetError):
            self.stats.aborted += 1
            raise
        finally:
            self.stats.running -= 1
            self._notify()

    async def models(self, _request: web.Request) -> web.Response:
        model = {"id": self.settings.model, "object": "model", "created": 0, "owned_by": "fake"}
        return web.json_response({"object": "list", "data": [model]})

    async def health(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def pull(self, request: web.Request) -> web.Response:
        """The side channel of the vLLM flavour: nobody is refused, as there; freed KV is just not there."""
        asked = await request.json()
        try:
            digest: str | None = self.kv.look(asked["handle"], asked["engine_id"])
            self.kv.end(asked["handle"], pulled=True)
        except KvGoneError:
            digest = None
        return web.json_response({"digest": digest})

    async def report(self, _request: web.Request) -> web.Response:
        return web.json_response({"requests": asdict(self.stats), "handles": self.kv.stats()})

    async def inject(self, request: web.Request) -> web.Response:
        asked = await request.json()
        self.faults.inject(Fault(asked["fault"]), int(asked.get("times", 1)))
        return web.Response(status=204)

    async def _generate(self, request: web.Request, body: Mapping[str, Any]) -> web.StreamResponse:
        fault = self.faults.take()
        answer = await self._misbehave(request, body, fault)
        if answer is not None:
            return answer
        prompt = prompt_of(body)
        if count_tokens(prompt) + output_tokens(body) > self.settings.max_model_len:
            return _too_long(self.settings.max_model_len)
        params = body.get("kv_transfer_params") or {}
        if bool(params.get("do_remote_decode")) != (self.settings.role == "prefill"):
            message = f"a {self.settings.role} worker got the other leg"
            return web.json_response(shapes.error(message, "InternalServerError", 500), status=500)
        if params.get("do_remote_decode"):
            return await self._prefill(request, body, fault)
        try:
            digest = await self._load(params, digest_of(prompt))
        except LoadFailedError:
            return await self._load_failed(request, body)
        return await self._decode(request, body, digest, fault)

    async def _load_failed(self, request: web.Request, body: Mapping[str, Any]) -> web.StreamResponse:
        if not body.get("stream"):
            return _internal_error()
        return await stream_error(request, self._shape(request, body))

    async def _misbehave(
        self, request: web.Request, body: Mapping[str, Any], fault: Fault | None
    ) -> web.StreamResponse | None:
        if fault is Fault.HANG:
            await asyncio.Event().wait()
        if fault is Fault.DIE and request.transport is not None:
            request.transport.close()
            await asyncio.Event().wait()
        if fault is Fault.ERROR:
            return _internal_error()
        if fault is Fault.BUSY:
            return web.json_response(shapes.error("busy", "RateLimitError", 429), status=429)
        if fault is Fault.STREAM_ERROR:
            return await self._load_failed(request, body)
        return None

    async def _prefill(
        self, request: web.Request, body: Mapping[str, Any], fault: Fault | None
    ) -> web.Response:
        prompt = prompt_of(body)
        await asyncio.sleep(self.settings.prefill_seconds)
        generation = self._generation(request, body, digest_of(prompt))
        keeps = self.settings.hands_over and generation.finish == "length" and fault is not Fault.NO_PARAMS
        params = self._grant(request, prompt, expired=fault is Fault.EXPIRED) if keeps else None
        return web.json_response(
            generation.shape.whole(generation.tokens, generation.finish, generation.prompt_tokens, params)
        )

    def _grant(self, request: web.Request, prompt: str, *, expired: bool) -> dict[str, Any]:
        """Leases the prompt's KV. The handle is the request's id, so ids that repeat are found out."""
        handle = request.headers["x-request-id"]
        seconds = 0.0 if expired else self.settings.lease_seconds
        self.kv.grant(handle, digest_of(prompt), seconds)
        return {
            "do_remote_prefill": True,
            "do_remote_decode": False,
            "remote_block_ids": [[540, 541, 2**60 + 1]],
            "remote_engine_id": self.kv.engine_id,
            "remote_request_id": handle,
            "remote_host": self.settings.host,
            "remote_port": self.kv_port,
            "tp_size": 1,
            "remote_num_tokens": count_tokens(prompt),
            "remote_blocks_expiry_time": time.time() + seconds if self.settings.flavour == "native" else None,
            "transfer_mode": "pull",
        }

    async def _load(self, params: Mapping[str, Any], own: str) -> str:
        """The digest that the output follows from: the own one if the KV is there. Raises LoadFailedError."""
        if params.get("do_remote_prefill"):
            try:
                if self.settings.flavour == "native":
                    return await pull_native(params)
                return await pull_vllm(self._session, params) or digest_of(GARBAGE)
            except LoadFailedError:
                if self.settings.on_load_failure == "fail":
                    raise
        await asyncio.sleep(self.settings.prefill_seconds)
        return own

    async def _decode(
        self, request: web.Request, body: Mapping[str, Any], digest: str, fault: Fault | None
    ) -> web.StreamResponse:
        generation = self._generation(request, body, digest)
        if body.get("stream"):
            return await stream(request, generation, fault)
        await asyncio.sleep(self.settings.token_seconds * len(generation.tokens))
        return web.json_response(
            generation.shape.whole(generation.tokens, generation.finish, generation.prompt_tokens, None)
        )

    def _shape(self, request: web.Request, body: Mapping[str, Any]) -> shapes.Shape:
        request_id = request.headers.get("x-request-id") or uuid4().hex
        return shapes.Shape("messages" in body, request_id, self.settings.model)

    def _generation(self, request: web.Request, body: Mapping[str, Any], digest: str) -> Generation:
        prompt = prompt_of(body)
        return Generation(
            shape=self._shape(request, body),
            tokens=tokens_of(digest, 1 if EOS in prompt else output_tokens(body)),
            finish="stop" if EOS in prompt else "length",
            prompt_tokens=count_tokens(prompt),
            seconds=self.settings.token_seconds,
            per_event=self.settings.tokens_per_event,
            usage=bool((body.get("stream_options") or {}).get("include_usage")),
        )


def _lowered(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _internal_error() -> web.Response:
    return web.json_response(shapes.INTERNAL_ERROR, status=500)


def _too_long(limit: int) -> web.Response:
    message = f"This model's maximum context length is {limit} tokens."
    error = shapes.error(message, "invalid_request_error", "context_length_exceeded")
    return web.json_response(error, status=400)
