"""What the HTTP server serves: nothing while the model loads, then a worker."""

from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CollectorRegistry

from tandem_worker.server.errors import ApiError
from tandem_worker.tokenizer import Tokenizer
from tandem_worker.worker import Worker


@dataclass(frozen=True, slots=True)
class Ready:
    """`kv_port` is where the KV service really listens. `fingerprint` names this version to clients."""

    worker: Worker
    tokenizer: Tokenizer
    kv_port: int
    fingerprint: str
    started_at: int


@dataclass(slots=True)
class Serving:
    """`ready` is set once, when everything is up."""

    registry: CollectorRegistry
    ready: Ready | None = None

    def get(self) -> Ready:
        """ApiError 503: the model is loading."""
        if self.ready is None:
            raise ApiError(503, "the model is loading", code="loading", retry_after=1)
        return self.ready

    def why_not_alive(self) -> str | None:
        return self.ready.worker.engine.failure if self.ready is not None else None

    def why_not_ready(self) -> str | None:
        if self.ready is None:
            return "loading"
        return self.why_not_alive() or ("draining" if self.ready.worker.is_draining else None)


SERVING = web.AppKey("serving", Serving)
