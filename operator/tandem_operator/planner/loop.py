"""Observe, plan, enact, again: the planner's shell for one service, in a cluster and on a laptop."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tandem_operator.api import LLMService
from tandem_operator.planner.plan import plan
from tandem_operator.planner.publish import PlannerMetrics, summary
from tandem_operator.planner.types import Missing, Observation, PlannedPool, PlannerConfig, PlannerState
from tandem_operator.scaling import PoolState, ScaleTarget
from tandem_operator.telemetry.base import Telemetry, TelemetryError
from tandem_operator.telemetry.prometheus import PrometheusTelemetry
from tandem_operator.telemetry.scrape import ScrapeTelemetry
from tandem_operator.units import seconds
from tandem_perf.slo import Slo

_log = logging.getLogger(__name__)
_INTERVALS_PER_WINDOW = 4

Current = Callable[[], LLMService]
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the loop takes from the service. Times in seconds."""

    mode: str
    prometheus: str | None
    interval: float
    config: PlannerConfig

    @property
    def window(self) -> float:
        """How far observations look back."""
        return _INTERVALS_PER_WINDOW * self.interval


def settings(service: LLMService) -> Settings:
    """The planner's part of a service."""
    slo, scaling = service.spec.slo, service.spec.autoscaling
    objective = Slo(seconds(slo.ttft), seconds(slo.tpot), slo.attainment)
    cooldown = scaling.cooldown
    config = PlannerConfig(objective, cooldown_up=seconds(cooldown.up), cooldown_down=seconds(cooldown.down))
    return Settings(scaling.mode, scaling.prometheus, seconds(scaling.interval), config)


class PlannerLoop:
    """Plans one service until cancelled. Edits of the service count from the next pass on."""

    def __init__(
        self, current: Current, target: ScaleTarget, metrics: PlannerMetrics, clock: Clock = time.monotonic
    ) -> None:
        self._current = current
        self._target = target
        self._metrics = metrics
        self._clock = clock
        self._state = PlannerState()
        self._telemetry: tuple[tuple[str | None, float], Telemetry] | None = None

    async def run(self) -> None:
        """One pass an interval. A pass that fails is logged and counted; the next one tries again."""
        try:
            while True:
                await self._pass()
                await asyncio.sleep(settings(self._current()).interval)
        finally:
            self._metrics.forget(self._current())

    async def step(self) -> None:
        """One pass: does nothing unless the service asks to be planned."""
        service = self._current()
        wanted = settings(service)
        if wanted.mode != "slo":
            self._state = PlannerState()
            return
        pools = bounded(service, await self._target.pools())
        now = self._clock()
        seen = await self._observe(service, wanted, now)
        result = plan(seen, pools, self._state, now, wanted.config)
        self._state = result.state
        self._metrics.publish(service, seen, result.decisions)
        await self._target.enact(summary(seen, result.decisions))

    async def _pass(self) -> None:
        try:
            await self.step()
        except Exception:
            service = self._current().metadata
            _log.exception("the planner's pass over %s/%s failed", service.namespace, service.name)
            self._metrics.failed(self._current(), "scaling")

    async def _observe(self, service: LLMService, wanted: Settings, now: float) -> Observation | Missing:
        try:
            return await self._source(service, wanted).observe(now)
        except TelemetryError as error:
            return Missing(error.reason, str(error))

    def _source(self, service: LLMService, wanted: Settings) -> Telemetry:
        key = (wanted.prometheus, wanted.window)
        if self._telemetry is None or self._telemetry[0] != key:
            self._telemetry = key, self._open(service, wanted)
        return self._telemetry[1]

    def _open(self, service: LLMService, wanted: Settings) -> Telemetry:
        meta = service.metadata
        if wanted.prometheus:
            return PrometheusTelemetry(wanted.prometheus, meta.namespace, meta.name, wanted.window)
        return ScrapeTelemetry(self._target.sources, meta.name, wanted.window)


def bounded(service: LLMService, pools: Sequence[PoolState]) -> list[PlannedPool]:
    """The pools that the service still has, with the bounds that it gives."""
    spec = {pool.name: pool for pool in service.spec.pools}
    return [
        PlannedPool(
            name=pool.name,
            role=pool.role,
            current=pool.replicas,
            ready=pool.ready,
            minimum=spec[pool.name].min_replicas or 0,
            maximum=spec[pool.name].max_replicas or pool.replicas,
        )
        for pool in pools
        if pool.name in spec
    ]
