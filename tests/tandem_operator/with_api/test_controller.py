"""Which passes an event leads to, what happens when they fail, and what is counted."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tandem_operator import controller as controller_module
from tandem_operator import workqueue
from tandem_operator.api import PoolStatus
from tandem_operator.controller import Controller, Key, affected
from tandem_operator.kube import ApiError, Kube
from tandem_operator.metrics import OperatorMetrics
from tandem_operator.report import Outcome
from tandem_operator.status import Fault
from tandem_operator.workqueue import WorkQueue

OWNED = {"controller": True, "kind": "WorkerPool", "name": "base-decode", "uid": "u"}


def manifest(kind: str, name: str, *owners: dict[str, Any]) -> dict[str, Any]:
    meta = {"name": name, "namespace": "default", "ownerReferences": list(owners)}
    return {"apiVersion": "v1", "kind": kind, "metadata": meta}


@pytest.mark.parametrize(
    ("seen", "keys"),
    [
        (manifest("LLMService", "base"), {Key("LLMService", "default", "base")}),
        (manifest("Deployment", "base-decode", OWNED), {Key("WorkerPool", "default", "base-decode")}),
        (
            manifest("WorkerPool", "base-decode", {**OWNED, "kind": "LLMService", "name": "base"}),
            {Key("WorkerPool", "default", "base-decode"), Key("LLMService", "default", "base")},
        ),
        (manifest("Deployment", "x", {**OWNED, "kind": "ReplicaSet"}), set()),
        (manifest("Deployment", "x", {**OWNED, "controller": False}), set()),
        (manifest("ConfigMap", "x"), set()),
    ],
)
def test_an_object_concerns_itself_and_its_controller(seen: dict[str, Any], keys: set[Key]) -> None:
    assert affected(seen) == keys


class Passes:
    """A pass that does what a test says, and tells when it ran."""

    def __init__(self) -> None:
        self.results: list[Outcome | Exception] = []
        self.ran: asyncio.Queue[str] = asyncio.Queue()

    async def __call__(self, namespace: str, name: str) -> Outcome:
        result = self.results.pop(0) if self.results else Outcome()
        self.ran.put_nowait(f"{namespace}/{name}")
        if isinstance(result, Exception):
            raise result
        return result

    async def next(self) -> str:
        return await asyncio.wait_for(self.ran.get(), 2)

    async def quiet(self) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.ran.get(), 0.05)
            return False
        return True


@pytest.fixture
def passes() -> Passes:
    return Passes()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
async def controller(
    kube: Kube, passes: Passes, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Controller]:
    monkeypatch.setattr(workqueue, "FIRST_RETRY", 0.01)
    queue: WorkQueue[Key] = WorkQueue(random.Random(0))
    table = {"LLMService": passes, "WorkerPool": passes}
    made = Controller(kube, None, queue, table, OperatorMetrics(registry), random.Random(0))
    work = asyncio.create_task(made.run())
    yield made
    work.cancel()
    await asyncio.wait({work})


async def test_an_event_leads_to_a_pass(controller: Controller, passes: Passes) -> None:
    controller.saw(manifest("LLMService", "base"))
    assert await passes.next() == "default/base"
    assert await passes.quiet()


@pytest.mark.parametrize(
    "failure",
    [
        ApiError(500, "Failing", "x"),
        ApiError(409, "Conflict", "x"),
        TimeoutError(),
        KeyError("a bug"),
        Outcome(Fault("Refused", "quota")),
    ],
)
async def test_a_pass_that_fails_is_tried_again(
    controller: Controller, passes: Passes, failure: Outcome | Exception
) -> None:
    passes.results = [failure]
    controller.saw(manifest("LLMService", "base"))
    await passes.next()
    assert await passes.next() == "default/base"
    assert await passes.quiet()


async def test_a_wrong_spec_waits_for_an_edit(controller: Controller, passes: Passes) -> None:
    passes.results = [Outcome(Fault("InvalidSpec", "x"))]
    controller.saw(manifest("LLMService", "base"))
    await passes.next()
    assert await passes.quiet()


async def test_one_failing_service_does_not_hold_up_others(controller: Controller, passes: Passes) -> None:
    passes.results = [KeyError("a bug")]
    controller.saw(manifest("LLMService", "broken"))
    await passes.next()
    controller.saw(manifest("LLMService", "fine"))
    assert "default/fine" in {await passes.next(), await passes.next()}


async def test_a_resync_looks_at_everything(
    kube: Kube, passes: Passes, api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controller_module, "RESYNC_SECONDS", 0.01)
    api.put({**manifest("LLMService", "base"), "apiVersion": "tandemserve.dev/v1alpha1"})
    queue: WorkQueue[Key] = WorkQueue(random.Random(0))
    made = Controller(
        kube, None, queue, {"LLMService": passes}, OperatorMetrics(CollectorRegistry()), random.Random(0)
    )
    work = asyncio.create_task(made.run())
    assert await passes.next() == "default/base"
    work.cancel()
    await asyncio.wait({work})


async def test_passes_and_pool_sizes_are_exposed(
    controller: Controller, passes: Passes, registry: CollectorRegistry
) -> None:
    pool = PoolStatus(name="decode", role="decode", desired=3, ready=2)
    passes.results = [Outcome(None, (pool,)), Outcome()]
    labels = {"namespace": "default", "llmservice": "base", "pool": "decode", "role": "decode"}

    def sample(name: str, **more: str) -> float | None:
        return registry.get_sample_value(name, more)

    controller.saw(manifest("LLMService", "base"))
    await passes.next()
    await asyncio.sleep(0)
    assert sample("tandem_pool_replicas", **labels, state="desired") == 3
    assert sample("tandem_pool_replicas", **labels, state="ready") == 2
    controller.saw(manifest("LLMService", "base"))
    await passes.next()
    await asyncio.sleep(0)
    assert sample("tandem_pool_replicas", **labels, state="ready") is None, (
        "a service that is gone has no pools"
    )
    assert sample("tandem_operator_reconciles_total", kind="LLMService", result="ok") == 2
