"""One pass over a WorkerPool: read, validate, converge its Deployment, and write status at most once."""

from collections.abc import Callable

from tandem_operator import observe
from tandem_operator.api import Manifest, WorkerPool, WorkerPoolStatus
from tandem_operator.converge import RefusedError, children, converge
from tandem_operator.desired import pool_children
from tandem_operator.desired.names import MANAGED_BY, MANAGER, POOL, SERVICE
from tandem_operator.desired.replicas import clamp
from tandem_operator.drift import Change, Ref, ending
from tandem_operator.kube import DEPLOYMENTS, POOLS, Kube
from tandem_operator.recorder import Recorder
from tandem_operator.report import Outcome, report
from tandem_operator.status import Fault, is_settled, pool_status
from tandem_operator.validation import InvalidResourceError, load_pool


class PoolPass:
    """Level-triggered, as the service's pass is."""

    def __init__(self, kube: Kube, recorder: Recorder, clock: Callable[[], float]) -> None:
        self._kube = kube
        self._recorder = recorder
        self._clock = clock

    async def run(self, namespace: str, name: str) -> Outcome:
        """Converge the pool of that name, if it is there."""
        live = await self._kube.get(POOLS, namespace, name)
        if live is None or ending(live):
            return Outcome()
        previous = observe.parse(WorkerPoolStatus, live)
        generation = live["metadata"]["generation"]
        owned = await children(self._kube, live, _labels(live), (DEPLOYMENTS,))
        pool, fault = _load(live)
        changes: list[Change] = []
        if pool is not None:
            desired, settled = pool_children(pool), is_settled(previous, generation)
            try:
                changes, owned = await converge(self._kube, live, desired, owned, settled=settled)
            except RefusedError as error:
                fault = error.fault
        workers = observe.deployment(owned.get(Ref(*DEPLOYMENTS, name)))
        status = pool_status(pool, generation, previous, workers, fault, self._clock())
        await report(self._kube, self._recorder, live, previous, status, changes)
        return Outcome(fault)


def _labels(live: Manifest) -> dict[str, str]:
    spec = live["spec"]
    return {MANAGED_BY: MANAGER, SERVICE: spec["service"], POOL: spec["pool"]}


def _load(live: Manifest) -> tuple[WorkerPool | None, Fault | None]:
    try:
        return load_pool(_within_bounds(live)), None
    except InvalidResourceError as error:
        return None, Fault("InvalidSpec", str(error))


def _within_bounds(live: Manifest) -> Manifest:
    """An old API server lets people scale past the bounds; the service's pass corrects the pool itself."""
    spec = live["spec"]
    replicas = clamp(spec.get("replicas", 1), spec.get("minReplicas"), spec.get("maxReplicas"))
    return {**live, "spec": {**spec, "replicas": replicas}}
