"""The planner's vocabulary: what it sees, remembers and decides. Times are seconds of one clock."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from tandem_operator.api import Role
from tandem_perf.slo import Slo


class Reason(StrEnum):
    """Why a decision is what it is, for metrics and Events."""

    QUEUE_WAIT = "queue_wait"
    BACKLOG = "prefill_backlog"
    TTFT = "ttft_attainment"
    TPOT = "tpot_attainment"
    KV_USAGE = "kv_usage"
    WAITING = "requests_waiting"
    SURPLUS = "surplus"
    BOUNDS = "bounds"
    STEADY = "steady"
    AT_MAXIMUM = "at_maximum"
    CONFIRMING = "confirming"
    STARTING = "replicas_starting"
    SETTLING = "settling"
    COOLDOWN = "cooldown"
    SCALED_TO_ZERO = "scaled_to_zero"
    NO_DATA = "no_data"


@dataclass(frozen=True, slots=True)
class PoolObservation:
    """What the workers of one pool reported. Rates and means are over the observation's window."""

    workers: int
    """Workers that reported."""
    running: int
    waiting: int
    backlog_tokens: int
    """Prompt tokens accepted and not yet computed."""
    kv_usage: float
    """Used KV blocks over all, 0 to 1, mean over the workers."""
    queue_wait: float | None
    """Mean seconds from accepted to first scheduled step; None when nothing started."""
    prefill_busy: float
    """Share of the time in steps that held prompt tokens, mean over the workers."""
    prefill_rate: float | None
    """Prompt tokens computed in a busy second of one worker; None when none were."""

    decode_step: float | None
    """Mean seconds of a step that gave tokens: the time per output token. None when there was none."""
    rate: float
    """Requests that started in a second."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What one service looked like over the last `window` seconds. A pool that did not report is absent."""

    window: float
    requests: float | None
    """Requests that finished; None when no router reported."""
    ttft_attainment: float | None
    """Share of them that met the objective; None when there were none."""
    tpot_attainment: float | None
    pools: Mapping[str, PoolObservation]


@dataclass(frozen=True, slots=True)
class Missing:
    """There is no observation, and why."""

    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class PlannedPool:
    """One pool as it is: replicas asked for, replicas ready, and the bounds."""

    name: str
    role: Role
    current: int
    ready: int
    minimum: int
    maximum: int


@dataclass(frozen=True, slots=True)
class PlannerConfig:
    """The objective and the planner's few numbers. All shares are 0 to 1, times in seconds."""

    slo: Slo
    cooldown_up: float = 15.0
    cooldown_down: float = 60.0
    queue_share: float = 0.5
    """Part of the TTFT objective that a request may wait; beyond it the pool grows."""
    kv_high: float = 0.85
    waiting_per_worker: float = 2.0
    fit_share: float = 0.7
    """A smaller pool fits when every signal stays under this part of its limit."""
    clearing: float = 60.0
    """A queue that will be gone within this many seconds needs no more workers."""
    confirmations: int = 2
    """Passes in a row that must ask for growth: one long prompt is not a trend."""
    start_patience: float = 120.0
    """Replicas that are not ready after this long no longer hold growth back."""
    min_requests: float = 5.0
    """Attainment over fewer requests says nothing."""
    remember: float = 1800.0
    """How long a pool size that was too small for a load is remembered."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A pool size was too small for `rate` requests per second, at time `at`."""

    rate: float
    at: float


@dataclass(frozen=True, slots=True)
class Floor:
    """The smallest of some seconds, and when it was seen."""

    seconds: float
    at: float


@dataclass(frozen=True, slots=True)
class PoolMemory:
    """What the planner remembers of one pool between passes."""

    current: int
    changed_at: float | None = None
    settled_at: float | None = None
    """When the pool last grew or the new replicas still started: earlier metrics show a smaller pool."""
    starting_since: float | None = None
    over: int = 0
    """Passes in a row that asked for growth."""
    fits_since: float | None = None
    prefill_rate: float | None = None
    step_floor: Floor | None = None
    """The shortest decode step that was seen: what one token takes in a small batch."""
    queue: tuple[float, float] | None = None
    """The worst signal of a queue at the last pass, and when that was."""
    limits: Mapping[int, Limit] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlannerState:
    """The planner's memory, by pool name."""

    pools: Mapping[str, PoolMemory] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """What one pool should be, and why; `desired == current` leaves it alone."""

    pool: str
    role: Role
    current: int
    desired: int
    reason: Reason
    text: str

    @property
    def changes(self) -> bool:
        return self.desired != self.current

    @property
    def direction(self) -> str:
        """`up`, `down` or `hold`."""
        return "up" if self.desired > self.current else "down" if self.desired < self.current else "hold"

    def __str__(self) -> str:
        move = f"{self.current} -> {self.desired}" if self.changes else f"stays {self.current}"
        return f"{self.pool} {move}: {self.text}"


@dataclass(frozen=True, slots=True)
class Plan:
    """One decision per pool, in the order given, and the memory for the next pass."""

    decisions: tuple[Decision, ...]
    state: PlannerState
