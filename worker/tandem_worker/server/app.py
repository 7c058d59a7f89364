"""The worker's HTTP routes."""

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from tandem_worker.server.body import MAX_BODY_BYTES
from tandem_worker.server.errors import error_middleware
from tandem_worker.server.openai import chat_completions, completions
from tandem_worker.server.request_id import add_request_id
from tandem_worker.server.serving import SERVING, Serving


def make_app(serving: Serving, max_body_bytes: int = MAX_BODY_BYTES) -> web.Application:
    app = web.Application(middlewares=[error_middleware], client_max_size=max_body_bytes)
    app[SERVING] = serving
    app.on_response_prepare.append(add_request_id)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/v1/models", models)
    app.router.add_post("/v1/completions", completions)
    app.router.add_post("/v1/chat/completions", chat_completions)
    return app


async def healthz(request: web.Request) -> web.Response:
    """503: only a restart helps."""
    return _status(request.app[SERVING].why_not_alive())


async def readyz(request: web.Request) -> web.Response:
    """503: send requests elsewhere."""
    return _status(request.app[SERVING].why_not_ready())


async def metrics(request: web.Request) -> web.Response:
    text = generate_latest(request.app[SERVING].registry)
    return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def models(request: web.Request) -> web.Response:
    ready = request.app[SERVING].get()
    model = {
        "id": ready.worker.settings.model_name,
        "object": "model",
        "created": ready.started_at,
        "owned_by": "tandem",
        "max_model_len": ready.worker.max_model_len,
    }
    return web.json_response({"object": "list", "data": [model]})


def _status(problem: str | None) -> web.Response:
    return web.json_response({"status": problem or "ok"}, status=200 if problem is None else 503)
