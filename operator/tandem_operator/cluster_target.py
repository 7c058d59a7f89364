"""What the planner of one service can see and do in a cluster."""

from collections.abc import Awaitable, Callable

from tandem_operator.api import AutoscalingStatus, Manifest
from tandem_operator.desired.names import COMPONENT, MANAGED_BY, MANAGER, POOL, ROLE, SERVICE
from tandem_operator.kube import PODS, POOLS, Kube
from tandem_operator.observe import pools as observed_pools
from tandem_operator.scaling import MetricsSource, PoolState, ScalingDecision
from tandem_operator.status import change

Publish = Callable[[ScalingDecision, AutoscalingStatus | None], Awaitable[None]]


class ClusterTarget:
    """A ScaleTarget: WorkerPools through their scale subresource, pods as metric sources."""

    def __init__(
        self, kube: Kube, namespace: str, service: str, publish: Publish, clock: Callable[[], float]
    ) -> None:
        self._kube = kube
        self._namespace = namespace
        self._labels = {MANAGED_BY: MANAGER, SERVICE: service}
        self._service = service
        self._publish = publish
        self._clock = clock

    async def pools(self) -> tuple[PoolState, ...]:
        found = observed_pools(await self._kube.list(POOLS, self._namespace, self._labels), None)
        return tuple(
            PoolState(pool.name, pool.role, pool.workload.desired, pool.workload.ready) for pool in found
        )

    async def sources(self) -> tuple[MetricsSource, ...]:
        return await sources(self._kube, self._namespace, self._service)

    async def enact(self, decision: ScalingDecision) -> None:
        if not decision.replicas:
            await self._publish(decision, None)
            return
        before = {pool.name: pool.replicas for pool in await self.pools()}
        for pool, replicas in decision.replicas.items():
            await self._kube.scale(self._namespace, f"{self._service}-{pool}", replicas)
        await self._publish(decision, change(decision, before, self._clock()))


async def sources(kube: Kube, namespace: str, service: str) -> tuple[MetricsSource, ...]:
    """A service's ready pods, to scrape."""
    pods = await kube.list(PODS, namespace, {MANAGED_BY: MANAGER, SERVICE: service})
    return tuple(_source(pod) for pod in pods if is_ready(pod))


def is_ready(pod: Manifest) -> bool:
    """It has an address, passes its readiness probe and is not ending."""
    status = pod.get("status", {})
    ready = any(item["type"] == "Ready" and item["status"] == "True" for item in status.get("conditions", ()))
    return ready and bool(status.get("podIP")) and "deletionTimestamp" not in pod["metadata"]


def _source(pod: Manifest) -> MetricsSource:
    meta = pod["metadata"]
    labels, port = meta["labels"], meta["annotations"]["prometheus.io/port"]
    return MetricsSource(
        name=meta["name"],
        url=f"http://{pod['status']['podIP']}:{port}/metrics",
        component=labels[COMPONENT],
        pool=labels.get(POOL),
        role=labels.get(ROLE),
    )
