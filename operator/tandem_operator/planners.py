"""One planner per service that asks for it: started, stopped, and its last word kept for status."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from tandem_operator.api import AutoscalingStatus, LLMService, Manifest
from tandem_operator.cluster_target import ClusterTarget
from tandem_operator.conditions import Notice
from tandem_operator.kube import Kube
from tandem_operator.recorder import Recorder
from tandem_operator.scaling import Autoscaler, ScalingDecision
from tandem_operator.status import Planned

_log = logging.getLogger(__name__)


class ServiceKey(NamedTuple):
    """A service by its place."""

    namespace: str
    name: str


@dataclass(slots=True)
class _Entry:
    service: LLMService
    live: Manifest
    task: asyncio.Task[None]
    planned: Planned = field(default_factory=Planned)


class Planners:
    """Runs `autoscaler` for every service in mode slo. `wake` asks for a pass to bring news into status."""

    def __init__(
        self,
        kube: Kube,
        recorder: Recorder,
        autoscaler: Autoscaler,
        wake: Callable[[str, str], None],
        clock: Callable[[], float],
    ) -> None:
        self._kube = kube
        self._recorder = recorder
        self._autoscaler = autoscaler
        self._wake = wake
        self._clock = clock
        self._entries: dict[ServiceKey, _Entry] = {}

    def ensure(self, service: LLMService, live: Manifest) -> None:
        """Start, feed or stop the planner of a service whose spec was accepted."""
        key = ServiceKey(service.metadata.namespace, service.metadata.name)
        if service.spec.autoscaling.mode != "slo":
            self.stop(*key)
            return
        entry = self._entries.get(key)
        if entry is None or entry.task.done():
            task = asyncio.create_task(self._run(key), name=f"planner {key.namespace}/{key.name}")
            self._entries[key] = _Entry(service, live, task)
        else:
            entry.service, entry.live = service, live

    def stop(self, namespace: str, name: str) -> None:
        """The service is gone, or does not want to be planned any more."""
        entry = self._entries.pop(ServiceKey(namespace, name), None)
        if entry is not None:
            entry.task.cancel()

    def planned(self, namespace: str, name: str) -> Planned:
        """What the planner said last."""
        entry = self._entries.get(ServiceKey(namespace, name))
        return entry.planned if entry else Planned()

    async def close(self) -> None:
        """Stop all of them and wait for their end."""
        tasks = [entry.task for entry in self._entries.values()]
        for key in list(self._entries):
            self.stop(*key)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, key: ServiceKey) -> None:
        entry = self._entries[key]
        target = ClusterTarget(self._kube, *key, partial(self._publish, key), self._clock)
        try:
            await self._autoscaler(lambda: entry.service, target)
        except Exception:
            _log.exception("the planner of %s/%s ended; the next resync starts it again", *key)

    async def _publish(
        self, key: ServiceKey, decision: ScalingDecision, change: AutoscalingStatus | None
    ) -> None:
        entry = self._entries.get(key)
        if entry is None:
            return
        before = entry.planned.decision
        entry.planned = Planned(decision, change or entry.planned.change)
        if change is not None:
            text = f"{change.last_decision}: {change.reason}"
            await self._recorder.publish(entry.live, [Notice("Normal", "Scaled", text)])
        if change is not None or before is None or before.reason != decision.reason:
            self._wake(*key)
