"""Simulated engines with a real router in front of them, all in this process: for tests and measurements."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from tandem_router.config import RouterConfig
from tandem_router.runtime import Runtime
from tandem_router.server import listening, new_runtime, publisher
from tandem_router.settings import policy
from tandem_router.types import Endpoint, Role
from tandem_sim.engines.engine import SimEngine
from tandem_sim.engines.server import running
from tandem_sim.engines.settings import Settings

CONFIG = RouterConfig(
    discovery="", hosts=("127.0.0.1",), port=0, model="fake", service="test", request_timeout=20.0
)
DEFAULTS = Settings()
ENGINE_OF = {
    "nixl": "vllm",
    "nixl-push": "vllm-push",
    "mooncake": "vllm-mooncake",
    "sglang": "sglang",
    "trtllm": "trtllm",
    "native": "native",
}
"""What the router calls an engine that speaks a protocol."""


@dataclass(slots=True)
class Fleet:
    """A running router at `url` and its workers, in the order in which they were asked for."""

    url: str
    runtime: Runtime
    engines: list[SimEngine]

    def of(self, role: str) -> list[SimEngine]:
        return [engine for engine in self.engines if engine.settings.role == role]

    def endpoints(self) -> list[Endpoint]:
        return [endpoint_of(engine, index) for index, engine in enumerate(self.engines)]

    def publish(self, endpoints: Sequence[Endpoint]) -> None:
        """Tells the router of other workers than all that run."""
        publisher(self.runtime)(endpoints)


def endpoint_of(engine: SimEngine, index: int) -> Endpoint:
    settings = engine.settings
    return Endpoint(
        name=f"{settings.role}-{index}",
        address=settings.host,
        port=engine.port,
        role=Role(settings.role),
        pool=settings.role,
        engine=ENGINE_OF[settings.protocol],
        model=settings.model,
        revision="1",
        bootstrap_port=engine.site.bootstrap_port,
        kv_port=engine.site.kv_port if settings.protocol == "native" else 0,
    )


@asynccontextmanager
async def fleet(*engines: Settings, config: RouterConfig = CONFIG) -> AsyncIterator[Fleet]:
    """Starts the engines, then the router, which knows all of them at once."""
    async with AsyncExitStack() as stack:
        started = [await stack.enter_async_context(running(settings)) for settings in engines]
        runtime = await stack.enter_async_context(new_runtime(config, policy(config.settings)))
        port = await stack.enter_async_context(listening(runtime))
        result = Fleet(f"http://{config.hosts[0]}:{port}", runtime, started)
        result.publish(result.endpoints())
        yield result


def pair(settings: Settings = DEFAULTS) -> tuple[Settings, Settings]:
    """One prefill and one decode worker with these settings."""
    return replace(settings, role="prefill"), replace(settings, role="decode")
