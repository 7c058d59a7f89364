"""The router's HTTP API: OpenAI's for clients, health and metrics for operators."""

import asyncio
import logging

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from tandem_router.answers import error_headers
from tandem_router.errors import ApiError
from tandem_router.exchange import Exchange, Job
from tandem_router.headers import REQUEST_ID, forwarded, request_ids
from tandem_router.openai import Api, parse_request
from tandem_router.record import Record
from tandem_router.reply import ClientLeftError, Reply
from tandem_router.runtime import Runtime

MAX_HEADERS = 100
BODY_SECONDS = 30.0
"""A client has this long to send its whole body."""

_METHODS = {"/v1/models": "GET", **{str(api): "POST" for api in Api}}
_log = logging.getLogger(__name__)


class RouterApi:
    """The handlers of one router."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def application(self) -> web.Application:
        app = web.Application(client_max_size=self._runtime.config.max_body_bytes)
        for api in Api:
            app.router.add_post(api, self.generate)
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/healthz", self.healthz)
        app.router.add_get("/readyz", self.readyz)
        app.router.add_get("/metrics", self.metrics)
        app.router.add_route("*", "/{path:.*}", self.unknown)
        return app

    async def generate(self, request: web.Request) -> web.StreamResponse:
        """Answers one chat or text completion."""
        clock = asyncio.get_running_loop().time
        record = Record(received=clock())
        client_id, engine_id = request_ids(request.headers.get(REQUEST_ID), self._runtime.new_id)
        try:
            response = await self._answered(request, record, client_id, engine_id)
        except ClientLeftError:
            return web.Response(status=499)
        if self._runtime.admission.draining:
            response.force_close()
        record.code = response.status
        self._runtime.metrics.finished(record, clock())
        return response

    async def models(self, _request: web.Request) -> web.Response:
        """Every model that a worker names, and the configured one."""
        data = [
            {"id": model, "object": "model", "created": 0, "owned_by": "tandem"}
            for model in self._runtime.directory.models
        ]
        return web.json_response({"object": "list", "data": data})

    async def healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(self, _request: web.Request) -> web.Response:
        """200 while requests can be served: some path exists and the router is not about to stop."""
        if self._runtime.admission.draining:
            return web.Response(status=503, text="draining\n")
        if not self._runtime.directory.serves():
            return web.Response(status=503, text="no worker can serve\n")
        return web.Response(text="ok\n")

    async def metrics(self, _request: web.Request) -> web.Response:
        body = generate_latest(self._runtime.metrics.registry)
        return web.Response(body=body, headers={"content-type": CONTENT_TYPE_LATEST})

    async def unknown(self, request: web.Request) -> web.Response:
        expected = _METHODS.get(request.path)
        if expected is None:
            error = ApiError(404, f"there is no {request.path} here", "not_found")
        else:
            error = ApiError(405, f"{request.path} takes {expected}", "method_not_allowed")
        return _error_response(error, self._runtime.new_id())

    async def _answered(
        self, request: web.Request, record: Record, client_id: str, engine_id: str
    ) -> web.StreamResponse:
        """The answer, or the error in the API's shape. Raises ClientLeftError."""
        try:
            return await self._admitted(request, record, client_id, engine_id)
        except ApiError as error:
            return _error_response(error, client_id)
        except ClientLeftError:
            raise
        except Exception:
            _log.exception("request %s failed", client_id)
            if request.writer.output_size > 0:
                raise
            return _error_response(ApiError(500, "the router failed", "internal_error"), client_id)

    async def _admitted(
        self, request: web.Request, record: Record, client_id: str, engine_id: str
    ) -> web.StreamResponse:
        admission, metrics = self._runtime.admission, self._runtime.metrics
        admission.enter()
        try:
            job = await self._job(request, record, client_id, engine_id)
            metrics.in_flight(record.model, 1)
            try:
                return await Exchange(self._runtime, job, record, Reply(request, record, client_id)).run()
            finally:
                metrics.in_flight(record.model, -1)
        finally:
            admission.leave()

    async def _job(self, request: web.Request, record: Record, client_id: str, engine_id: str) -> Job:
        """Reads and checks a request. Raises ApiError."""
        runtime = self._runtime
        if len(request.headers) > MAX_HEADERS:
            raise ApiError(431, f"more than {MAX_HEADERS} headers", "too_many_headers")
        deadline = record.received + runtime.config.request_timeout
        data = await _read_body(request, min(deadline, record.received + BODY_SECONDS))
        parsed = parse_request(Api(request.path), data, client_id)
        model = parsed.info.model
        if model not in runtime.directory.models:
            raise ApiError(404, f"the model {model!r} does not exist", "model_not_found", "model")
        record.model, record.stream = model, parsed.info.stream
        return Job(parsed, client_id, engine_id, forwarded(request.headers), deadline)


async def _read_body(request: web.Request, deadline: float) -> bytes:
    try:
        async with asyncio.timeout_at(deadline):
            return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise ApiError(413, str(error.text), "body_too_large") from error
    except TimeoutError as error:
        raise ApiError(408, "the body did not arrive in time", "body_timeout") from error


def _error_response(error: ApiError, request_id: str) -> web.Response:
    return web.Response(status=error.status, body=error.encode(), headers=error_headers(error, request_id))
