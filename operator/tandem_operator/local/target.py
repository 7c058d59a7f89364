"""The fleet as the planner sees it."""

from collections.abc import Callable

from tandem_operator.api import LLMService, Pool
from tandem_operator.local.fleet import Fleet
from tandem_operator.local.supervised import Supervised
from tandem_operator.scaling import MetricsSource, PoolState, ScalingDecision


class LocalTarget:
    """A ScaleTarget whose pools are processes. Changes of mind and of circumstances go to `report`."""

    def __init__(self, service: LLMService, fleet: Fleet, report: Callable[[str], None]) -> None:
        self._service = service
        self._fleet = fleet
        self._report = report
        self._blind = False

    async def pools(self) -> tuple[PoolState, ...]:
        return tuple(self._state(pool) for pool in self._service.spec.pools)

    async def sources(self) -> tuple[MetricsSource, ...]:
        return tuple(_source(process) for process in self._fleet.processes if process.ready)

    async def enact(self, decision: ScalingDecision) -> None:
        for pool, replicas in decision.replicas.items():
            self._fleet.scale(pool, replicas)
        sight_changed = self._blind == decision.observed
        if decision.replicas or sight_changed:
            self._report(f"planner: {decision.message}")
        self._blind = not decision.observed

    def _state(self, pool: Pool) -> PoolState:
        workers = self._fleet.workers(pool.name)
        return PoolState(pool.name, pool.role, len(workers), sum(worker.ready for worker in workers))


def _source(process: Supervised) -> MetricsSource:
    spec = process.spec
    url = f"http://{spec.address}:{spec.ports['http']}/metrics"
    return MetricsSource(spec.name, url, "worker" if spec.pool else "router", spec.pool)
