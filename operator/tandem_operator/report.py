"""The end of a pass: status if it changed, Events for what was done and for what turned."""

from typing import NamedTuple

from tandem_operator.api import LLMServiceStatus, Manifest, PoolStatus, WorkerPoolStatus
from tandem_operator.conditions import notices
from tandem_operator.converge import told
from tandem_operator.drift import Change
from tandem_operator.kube import Kube
from tandem_operator.recorder import Recorder
from tandem_operator.status import Fault

Status = LLMServiceStatus | WorkerPoolStatus


class Outcome(NamedTuple):
    """What a pass found: what keeps the resource from being made real, and the pools of a service."""

    fault: Fault | None = None
    pools: tuple[PoolStatus, ...] = ()


async def report(
    kube: Kube, recorder: Recorder, live: Manifest, previous: Status, status: Status, changes: list[Change]
) -> None:
    """Write `status` unless it is there already, and publish what people should hear of."""
    if status.manifest() != live.get("status"):
        await kube.write_status(live, status.manifest())
    said = [*told(changes), *notices(previous.conditions, status.conditions)]
    await recorder.publish(live, said)
