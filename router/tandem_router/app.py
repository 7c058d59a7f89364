"""The router's HTTP API: OpenAI's for clients, health and metrics for operators."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from tandem_router.access.desk import Caller, model_card, model_not_found
from tandem_router.answers import error_headers
from tandem_router.dialects import COUNT_TOKENS, DIALECTS, count_tokens, error_for
from tandem_router.errors import ApiError
from tandem_router.exchange import Exchange
from tandem_router.exposition import exposition
from tandem_router.fitting import fitted
from tandem_router.headers import REQUEST_ID, forwarded, request_ids
from tandem_router.http.deadlines import Deadlines
from tandem_router.http.front import Front, Handler
from tandem_router.http.head import HttpError, RequestHead
from tandem_router.http.request import Client, Request
from tandem_router.legwork import Job
from tandem_router.openai import Api, parse_request
from tandem_router.record import Record
from tandem_router.reply import Reply
from tandem_router.runtime import Runtime
from tandem_router.translated import TranslatedRequest

SWEEP_SECONDS = 1.0
REFRESH_SECONDS = 2.0

_METHODS = {"/v1/models": "GET", **dict.fromkeys((*map(str, Api), *DIALECTS, COUNT_TOKENS), "POST")}
T = TypeVar("T")
_log = logging.getLogger(__name__)


class HotApi:
    """What is served without a web framework: requests that workers answer (a `Service` of `http.front`)."""

    def __init__(self, runtime: Runtime, others: web.Server) -> None:
        self._runtime, self._others = runtime, others
        self.max_body_bytes = runtime.config.max_body_bytes
        self.deadlines: Deadlines[Front] = Deadlines(SWEEP_SECONDS)
        self._handlers: dict[tuple[str, str], Handler] = {
            **{("POST", str(api)): self.generate for api in Api},
            **{("POST", path): self.translate for path in DIALECTS},
            ("POST", COUNT_TOKENS): self.count_tokens,
        }

    async def close(self) -> None:
        """Ends the connections that are left, whatever they do."""
        stopped = [front.stop() for front in self.deadlines.close()]
        await asyncio.gather(*(task for task in stopped if task is not None), return_exceptions=True)

    @property
    def closing(self) -> bool:
        return self._runtime.admission.draining

    def handler(self, head: RequestHead) -> Handler | None:
        return self._handlers.get((head.method, head.target.partition("?")[0]))

    def other(self) -> asyncio.Protocol:
        return self._others()

    def refusal(self, error: HttpError) -> tuple[Mapping[str, str], bytes]:
        now = self._runtime.clock()
        record = Record(received=now, code=error.status)
        self._runtime.metrics.finished(record, now)
        answer = ApiError(error.status, str(error), error.code)
        return error_headers(answer, self._runtime.new_id()), answer.encode()

    async def translate(self, request: Request) -> None:
        """Answers a request of another API as one for a chat completion."""
        translation = self._made(request, DIALECTS[request.path])
        if translation is not None:
            request.body = b""
            await self.generate(TranslatedRequest(request, Api.CHAT, *translation))

    async def count_tokens(self, request: Request) -> None:
        body = self._made(request, count_tokens)
        if body is not None:
            headers = {REQUEST_ID: self._runtime.new_id(), "content-type": "application/json"}
            request.respond(200, headers, body)

    def _made(self, request: Request, make: Callable[[bytes], T]) -> T | None:
        """What becomes of the body of somebody who may ask; None if the request was refused."""
        try:
            self._runtime.desk.caller(request.headers, request.received)
            return make(request.body)
        except ApiError as error:
            self._refuse(request, error)
        except Exception:
            _log.exception("a request to %s could not be translated", request.path)
            self._refuse(request, ApiError(500, "the router failed", "internal_error"))
        return None

    def _refuse(self, request: Request, error: ApiError) -> None:
        client_id, _ = request_ids(request.headers.get(REQUEST_ID), self._runtime.new_id)
        request.respond(error.status, error_headers(error, client_id), error_for(request.path, error))
        record = Record(received=request.received, code=error.status)
        self._runtime.metrics.finished(record, self._runtime.clock())

    async def generate(self, request: Client) -> None:
        """Answers one chat or text completion."""
        record = Record(received=request.received)
        client_id, engine_id = request_ids(request.headers.get(REQUEST_ID), self._runtime.new_id)
        try:
            await self._admitted(request, record, client_id, engine_id)
        except ApiError as error:
            request.respond(error.status, error_headers(error, client_id), error.encode())
        except Exception:
            _log.exception("request %s failed", client_id)
            if request.started:
                request.abort()
            else:
                failure = ApiError(500, "the router failed", "internal_error")
                request.respond(failure.status, error_headers(failure, client_id), failure.encode())
        record.code = request.status
        self._runtime.metrics.finished(record, self._runtime.clock())

    async def _admitted(self, request: Client, record: Record, client_id: str, engine_id: str) -> None:
        admission, metrics = self._runtime.admission, self._runtime.metrics
        admission.enter()
        try:
            caller = self._runtime.desk.caller(request.headers, record.received)
            job = self._job(request, record, caller, client_id, engine_id)
            if self._runtime.watchers is not None and self._runtime.watchers.exact:
                job = replace(job, parsed=await self._runtime.watchers.located(job.parsed))
            metrics.in_flight(record.model, 1)
            try:
                reply = Reply(request, record, client_id, self._runtime.clock)
                await Exchange(self._runtime, job, record, reply).run()
            finally:
                metrics.in_flight(record.model, -1)
                self._runtime.desk.settle(caller, job.parsed, record.usage, self._runtime.clock())
        finally:
            admission.leave()

    def _job(self, request: Client, record: Record, caller: Caller, client_id: str, engine_id: str) -> Job:
        """Checks a request. Raises ApiError."""
        runtime = self._runtime
        desk = runtime.desk
        parsed = parse_request(Api(request.path), request.body, engine_id, caller.asker, desk.names)
        parsed = replace(parsed, info=runtime.forecaster.sized(parsed.info))
        size, request.body = len(request.body), b""
        model = parsed.info.model
        if model not in runtime.directory.models:
            raise model_not_found(parsed.name)
        record.model, record.stream = model, parsed.info.stream
        record.service_class = parsed.info.service_class
        record.limits = desk.admit(caller, parsed, record.received)
        parsed = fitted(desk.salted(caller, parsed), runtime.directory.candidates(model))
        deadline = record.received + runtime.config.request_timeout
        return Job(parsed, client_id, engine_id, forwarded(request.headers), deadline, size)


class ColdApi:
    """What is served by aiohttp: everything that no worker answers. Each answer ends its connection."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def application(self) -> web.Application:
        app = web.Application(client_max_size=self._runtime.config.max_body_bytes)
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/v1/models/{name:.+}", self.model)
        app.router.add_get("/healthz", self.healthz)
        app.router.add_get("/readyz", self.readyz)
        app.router.add_get("/metrics", self.metrics)
        app.router.add_route("*", "/{path:.*}", self.unknown)
        app.on_response_prepare.append(_last_answer)
        return app

    async def models(self, request: web.Request) -> web.Response:
        """Every name that the caller may ask for: models of workers, aliases, adapters."""
        try:
            names = self._known(request)
        except ApiError as error:
            return self._error(request, error)
        ends = {"has_more": False, "first_id": names[0], "last_id": names[-1]} if names else {}
        return web.json_response({"object": "list", "data": [model_card(name) for name in names], **ends})

    async def model(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        try:
            if name not in self._known(request):
                raise model_not_found(name)
        except ApiError as error:
            return self._error(request, error)
        return web.json_response(model_card(name))

    def _known(self, request: web.Request) -> list[str]:
        """Raises ApiError (401)."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        caller = self._runtime.desk.caller(headers, self._runtime.clock())
        return self._runtime.desk.known(caller, self._runtime.directory.models)

    def _error(self, request: web.Request, error: ApiError) -> web.Response:
        headers = error_headers(error, self._runtime.new_id())
        return web.Response(status=error.status, body=error_for(request.path, error), headers=headers)

    async def healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(self, _request: web.Request) -> web.Response:
        """200 while requests can be served: some path exists and the router is not about to stop."""
        if self._runtime.admission.draining:
            return web.Response(status=503, text="draining\n")
        if not self._runtime.directory.serves():
            return web.Response(status=503, text="no worker can serve\n")
        return web.Response(text="ok\n")

    def refresh(self) -> None:
        """Brings the gauges up to date that nothing else sets."""
        forecaster, metrics = self._runtime.forecaster, self._runtime.metrics
        metrics.predicted(forecaster.median_errors(), forecaster.break_evens())
        metrics.waiting(self._runtime.gate.scheduler.waiting(self._runtime.clock()))

    async def keep_fresh(self) -> None:
        """Refreshes until cancelled: in one of several processes, any of which may be scraped for all."""
        while True:
            self.refresh()
            await asyncio.sleep(REFRESH_SECONDS)

    async def metrics(self, _request: web.Request) -> web.Response:
        self.refresh()
        body = exposition(self._runtime.metrics.registry)
        return web.Response(body=body, headers={"content-type": CONTENT_TYPE_LATEST})

    async def unknown(self, request: web.Request) -> web.Response:
        expected = _METHODS.get(request.path)
        if expected is None:
            error = ApiError(404, f"there is no {request.path} here", "not_found")
        else:
            error = ApiError(405, f"{request.path} takes {expected}", "method_not_allowed")
        return self._error(request, error)


async def _last_answer(_request: web.Request, response: web.StreamResponse) -> None:
    # The connection was given away for this request; the next one may be one that is not served here.
    response.force_close()
    response.headers["connection"] = "close"
