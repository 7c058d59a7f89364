"""Puts the operator together and runs it until it is told to stop."""

import asyncio
import contextlib
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import kopf
from prometheus_client import CollectorRegistry, start_http_server

from tandem_operator.cluster_config import Cluster
from tandem_operator.cluster_target import sources
from tandem_operator.controller import Controller, Key
from tandem_operator.desired.names import MANAGER
from tandem_operator.handlers import registry, settings
from tandem_operator.images import Images
from tandem_operator.kube import POOLS, SERVICES, ApiError, Kube, connect
from tandem_operator.metrics import OperatorMetrics
from tandem_operator.path_watch import PathWatch
from tandem_operator.planner.loop import PlannerLoop
from tandem_operator.planners import Planners
from tandem_operator.pool_pass import PoolPass
from tandem_operator.recorder import Recorder
from tandem_operator.scaling import Autoscaler
from tandem_operator.service_pass import ServicePass
from tandem_operator.workqueue import WorkQueue


@dataclass(frozen=True, slots=True)
class Options:
    """How one operator runs. `namespace` None is the whole cluster; ports are on `listen`."""

    namespace: str | None
    images: Images
    listen: str
    metrics_port: int
    health_port: int


class MissingDefinitionsError(Exception):
    """The cluster does not know our resources."""


async def operate(cluster: Cluster, options: Options) -> None:
    """Run until SIGTERM or SIGINT. MissingDefinitionsError if the CRDs are not installed."""
    series = CollectorRegistry()
    metrics = OperatorMetrics(series)
    rng = random.Random()  # noqa: S311  # spreads retries
    queue: WorkQueue[Key] = WorkQueue(rng)
    async with connect(cluster) as kube:
        await _check_definitions(kube, options.namespace)
        recorder = Recorder(kube, time.time)
        wake = partial(_wake, queue)
        planners = Planners(kube, recorder, _autoscaler(metrics), wake, time.time)
        paths = PathWatch(partial(sources, kube), wake, time.monotonic)
        passes = {
            SERVICES[1]: ServicePass(kube, recorder, planners, paths, options.images, time.time).run,
            POOLS[1]: PoolPass(kube, recorder, time.time).run,
        }
        controller = Controller(kube, options.namespace, queue, passes, metrics, rng)
        with _exposed(series, options):
            await _run(controller, (planners, paths), options)


async def _run(controller: Controller, watching: Sequence[Planners | PathWatch], options: Options) -> None:
    """kopf, the controller, planners and watches, ending together whichever ends first."""
    handlers = registry(controller)
    stop = asyncio.Event()
    work = asyncio.create_task(controller.run(), name="controller")
    work.add_done_callback(lambda _: stop.set())

    @kopf.on.cleanup(registry=handlers)
    async def finish(**_: Any) -> None:
        work.cancel()
        await asyncio.wait({work})
        for each in watching:
            await each.close()

    try:
        await kopf.operator(
            registry=handlers,
            settings=settings(),
            clusterwide=options.namespace is None,
            namespaces=[options.namespace] if options.namespace else (),
            liveness_endpoint=f"http://{options.listen}:{options.health_port}/healthz",
            stop_flag=stop,
            # kopf's own choice asks for the user's name, which a container's user need not have.
            identity=cast(Any, MANAGER),
        )
    finally:
        work.cancel()
    if not work.cancelled():
        await work


def _wake(queue: WorkQueue[Key], namespace: str, name: str) -> None:
    queue.add(Key(SERVICES[1], namespace, name))


def _autoscaler(metrics: OperatorMetrics) -> Autoscaler:
    return lambda current, target: PlannerLoop(current, target, metrics.planner).run()


@contextlib.contextmanager
def _exposed(metrics: CollectorRegistry, options: Options) -> Iterator[None]:
    server, thread = start_http_server(options.metrics_port, options.listen, metrics)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


async def _check_definitions(kube: Kube, namespace: str | None) -> None:
    try:
        for kind in (SERVICES, POOLS):
            await kube.list(kind, namespace)
    except ApiError as error:
        if error.status != 404:
            raise
        raise MissingDefinitionsError(
            "the cluster knows no LLMService or WorkerPool: install the CRDs first,"
            " `kubectl apply -f manifests/crds` or `helm install`"
        ) from error
