"""What the scheduler keeps: per model, per class, per running request."""

from dataclasses import dataclass

from tandem_router.queueing.capacity import Held
from tandem_router.queueing.congestion import Congestion
from tandem_router.queueing.estimates import Estimates
from tandem_router.queueing.line import Line
from tandem_router.queueing.policy import QueuePolicy
from tandem_router.queueing.waiting import Waiting


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long the queue may get, for each class, and how soon a pod is expected when there is none."""

    requests: int = 2048
    size: int = 256 * 2**20
    pod_start: float = 30.0


@dataclass(slots=True)
class Running:
    """A request that was started."""

    waiting: Waiting
    held: Held
    started: float
    first_token: float | None = None


@dataclass(slots=True)
class Depth:
    """What of one class waits."""

    requests: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class Backlog:
    """What of one class waits now: requests, their prompt tokens, seconds that the oldest has waited."""

    requests: int = 0
    tokens: int = 0
    oldest: float = 0.0


class Model:
    """One model's line and what is known of it. `side`: the workers that compute its prompts, of pool `pool`.

    `held_back`: somebody waits for less load and not for a free place.
    """

    def __init__(self, policy: QueuePolicy) -> None:
        self.line = Line(policy.fair, just_enough=policy.just_enough)
        self.estimates = Estimates(policy.margin)
        self.congestion = None if policy.congestion is None else Congestion(policy.congestion)
        self.pool = ""
        self.side: tuple[str, ...] = ()
        self.held_back = False
