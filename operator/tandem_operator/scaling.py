"""The seam between the planner and what it scales: a cluster's pools or this machine's processes."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from tandem_operator.api import LLMService, Role


@dataclass(frozen=True, slots=True)
class PoolState:
    """One pool now: what was asked for and what is ready."""

    name: str
    role: Role
    replicas: int
    ready: int


@dataclass(frozen=True, slots=True)
class MetricsSource:
    """One pod or process to scrape; `pool` and `role` are None for a router."""

    name: str
    url: str
    component: Literal["router", "worker"]
    pool: str | None = None
    role: Role | None = None


@dataclass(frozen=True, slots=True)
class ScalingDecision:
    """What one pass of the planner decided.

    `replicas` holds only the pools to change. `reason` is one CamelCase word for conditions and metrics,
    `message` says it to people. `observed` is False when there was nothing to decide from.
    """

    reason: str
    message: str
    replicas: Mapping[str, int] = field(default_factory=dict)
    observed: bool = True


class ScaleTarget(Protocol):
    """What the planner's loop can see and do for one service."""

    async def pools(self) -> tuple[PoolState, ...]:
        """The service's pools in the order of its spec."""

    async def sources(self) -> tuple[MetricsSource, ...]:
        """Ready routers and workers, to scrape where there is no Prometheus."""

    async def enact(self, decision: ScalingDecision) -> None:
        """Scale the pools and publish the decision; also called when nothing changes."""


# Runs until cancelled. The first argument gives the newest accepted service: an edit needs no restart.
Autoscaler = Callable[[Callable[[], LLMService], ScaleTarget], Awaitable[None]]
