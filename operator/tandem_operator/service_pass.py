"""One pass over an LLMService: read, validate, converge, and write status at most once."""

from collections.abc import Callable, Mapping

from tandem_operator import observe
from tandem_operator.api import LLMService, LLMServiceStatus, Manifest, WorkerPool
from tandem_operator.converge import RefusedError, children, converge
from tandem_operator.desired import children as desired_children
from tandem_operator.desired import pool_children
from tandem_operator.desired.names import MANAGED_BY, MANAGER, SERVICE, router_name
from tandem_operator.drift import Change, Ref, ending
from tandem_operator.images import Images
from tandem_operator.kube import CHILDREN, DEPLOYMENTS, POOLS, SERVICES, Kube
from tandem_operator.path_watch import PathWatch
from tandem_operator.planners import Planners
from tandem_operator.recorder import Recorder
from tandem_operator.report import Outcome, report
from tandem_operator.status import Fault, Observed, is_settled, service_status
from tandem_operator.validation import InvalidResourceError, load_service

Children = Mapping[Ref, Manifest]


class ServicePass:
    """Level-triggered: it looks at what is there now, so it may run at any time and any number of times."""

    def __init__(
        self,
        kube: Kube,
        recorder: Recorder,
        planners: Planners,
        paths: PathWatch,
        images: Images,
        clock: Callable[[], float],
    ) -> None:
        self._kube = kube
        self._recorder = recorder
        self._planners = planners
        self._paths = paths
        self._images = images
        self._clock = clock

    async def run(self, namespace: str, name: str) -> Outcome:
        """Converge the service of that name; one that is gone only loses its planner."""
        live = await self._kube.get(SERVICES, namespace, name)
        if live is None or ending(live):
            self._planners.stop(namespace, name)
            self._paths.stop(namespace, name)
            return Outcome()
        previous = observe.parse(LLMServiceStatus, live)
        owned: Children = await children(self._kube, live, {MANAGED_BY: MANAGER, SERVICE: name}, CHILDREN)
        service, fault = _load(live)
        changes: list[Change] = []
        if service is not None:
            settled = is_settled(previous, live["metadata"]["generation"])
            try:
                changes, owned = await self._converge(live, service, owned, settled=settled)
                self._planners.ensure(service, live)
                self._paths.ensure(service)
            except RefusedError as error:
                fault = error.fault
        status = self._status(live, service, previous, owned, fault)
        await report(self._kube, self._recorder, live, previous, status, changes)
        return Outcome(fault, status.pools)

    async def _converge(
        self, live: Manifest, service: LLMService, owned: Children, *, settled: bool
    ) -> tuple[list[Change], Children]:
        desired = desired_children(service, self._images, observe.live_pools(_pools(owned)))
        pools = [manifest for manifest in desired if manifest["kind"] == "WorkerPool"]
        workers = [child for pool in pools for child in pool_children(WorkerPool.model_validate(pool))]
        return await converge(self._kube, live, desired, owned, settled=settled, preview=workers)

    def _status(
        self,
        live: Manifest,
        service: LLMService | None,
        previous: LLMServiceStatus,
        owned: Children,
        fault: Fault | None,
    ) -> LLMServiceStatus:
        meta = live["metadata"]
        observed = Observed(
            pools=observe.pools(_pools(owned), service),
            router=observe.deployment(owned.get(Ref(*DEPLOYMENTS, router_name(meta["name"])))),
            fault=fault,
            planned=self._planners.planned(meta["namespace"], meta["name"]),
            paths=self._paths.paths(meta["namespace"], meta["name"]),
        )
        return service_status(service, meta["generation"], previous, observed, self._clock())


def _load(live: Manifest) -> tuple[LLMService | None, Fault | None]:
    try:
        return load_service(live), None
    except InvalidResourceError as error:
        return None, Fault("InvalidSpec", str(error))


def _pools(owned: Children) -> list[Manifest]:
    return [manifest for ref, manifest in owned.items() if ref[:2] == POOLS]
