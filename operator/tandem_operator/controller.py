"""Turns watch events into passes: one queue, a few workers, back-off after failures, resyncs."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, NoReturn

from tandem_operator.kube import POOLS, SERVICES, Kube
from tandem_operator.metrics import OperatorMetrics
from tandem_operator.recorder import UNREACHABLE, is_gone
from tandem_operator.report import Outcome
from tandem_operator.workqueue import WorkQueue

_log = logging.getLogger(__name__)

WORKERS = 4
RESYNC_SECONDS = 300.0
PASS_SECONDS = 60.0
OWNERS = (SERVICES[1], POOLS[1])


class Key(NamedTuple):
    """A resource that wants a pass."""

    kind: str
    namespace: str
    name: str


Pass = Callable[[str, str], Awaitable[Outcome]]


def affected(manifest: Mapping[str, Any]) -> set[Key]:
    """The resources whose passes look at this object: itself, if it is ours, and the one that controls it."""
    meta = manifest["metadata"]
    namespace = meta["namespace"]
    keys = {
        Key(owner["kind"], namespace, owner["name"])
        for owner in meta.get("ownerReferences", ())
        if owner.get("controller") and owner["kind"] in OWNERS
    }
    if manifest["kind"] in OWNERS:
        keys.add(Key(manifest["kind"], namespace, meta["name"]))
    return keys


class Controller:
    """Runs the passes. `namespace` None is all namespaces."""

    def __init__(
        self,
        kube: Kube,
        namespace: str | None,
        queue: WorkQueue[Key],
        passes: Mapping[str, Pass],
        metrics: OperatorMetrics,
        rng: random.Random,
    ) -> None:
        self._kube = kube
        self._namespace = namespace
        self._queue = queue
        self._passes = passes
        self._metrics = metrics
        self._rng = rng

    def saw(self, manifest: Mapping[str, Any]) -> None:
        """Something happened to this object."""
        for key in affected(manifest):
            self._queue.add(key)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(WORKERS):
                group.create_task(self._work(), name=f"reconciler {number}")
            group.create_task(self._resync(), name="resync")

    async def _work(self) -> NoReturn:
        while True:
            key = await self._queue.take()
            failed = True
            started = time.monotonic()
            try:
                failed = await self._pass(key)
            finally:
                self._queue.done(key, failed=failed)
                self._metrics.passed(key.kind, time.monotonic() - started, failed=failed)

    async def _pass(self, key: Key) -> bool:
        """Whether the key needs another pass soon."""
        try:
            async with asyncio.timeout(PASS_SECONDS):
                outcome = await self._passes[key.kind](key.namespace, key.name)
        except UNREACHABLE as error:
            level = logging.DEBUG if is_gone(error) else logging.WARNING
            _log.log(level, "%s %s/%s: %s; trying again", *key, error or type(error).__name__)
            return True
        except Exception:
            _log.exception("%s %s/%s: the pass failed; trying again", *key)
            return True
        if key.kind == SERVICES[1]:
            self._metrics.pools(key.namespace, key.name, outcome.pools)
        # A spec that is wrong stays wrong until somebody edits it; what the cluster refused may pass later.
        return outcome.fault is not None and outcome.fault.reason != "InvalidSpec"

    async def _resync(self) -> NoReturn:
        while True:
            await asyncio.sleep(RESYNC_SECONDS * self._rng.uniform(0.8, 1.2))
            try:
                await self._add_all()
            except UNREACHABLE as error:
                _log.warning("resync: %s", error)

    async def _add_all(self) -> None:
        for kind in (SERVICES, POOLS):
            for manifest in await self._kube.list(kind, self._namespace):
                self.saw(manifest)
