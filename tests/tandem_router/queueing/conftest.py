"""A fleet whose pipeline takes the first worker that is not ruled out, and requests for it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

import pytest

from tandem_router.loads import LoadBook
from tandem_router.queueing.capacity import Capacity, Limits
from tandem_router.queueing.policy import QueuePolicy
from tandem_router.queueing.scheduler import Scheduler
from tandem_router.queueing.state import Bounds
from tandem_router.queueing.tiers import Tier
from tandem_router.types import BUSY, Choice, Constraint, Endpoint, NoChoice, Path, Report, RequestInfo, Role


def endpoint(name: str, role: Role) -> Endpoint:
    return Endpoint(name, "127.0.0.1", 1, role, role.value, "native", "m", "r")


@dataclass
class Fleet:
    """Prefill and decode workers by name; without prefill workers everything is local."""

    prefills: int = 1
    decodes: int = 1
    loads: LoadBook = field(default_factory=LoadBook)
    reports: dict[str, Report] = field(default_factory=dict)

    def endpoints(self) -> list[Endpoint]:
        sides = [endpoint(f"p{i}", Role.PREFILL) for i in range(self.prefills)]
        return sides + [endpoint(f"d{i}", Role.DECODE) for i in range(self.decodes)]

    def choose(self, _request: RequestInfo, constraint: Constraint) -> Choice | NoChoice:
        left = [e for e in self.endpoints() if e.name not in constraint.avoid | constraint.full]
        left.sort(key=lambda e: self.loads[e.name].tokens if e.name in self.loads else 0)
        prefill = next((e for e in left if e.role is Role.PREFILL), None)
        decode = next((e for e in left if e.role is Role.DECODE), None)
        if decode is None or (self.prefills and prefill is None):
            return NoChoice(BUSY if constraint.full else "no_ready_worker")
        path = Path.DISAGGREGATED if prefill else Path.LOCAL
        return Choice(prefill, decode, path, "test")

    def scheduler(
        self,
        *tiers: Tier,
        limits: Limits | None = None,
        bounds: Bounds | None = None,
        policy: QueuePolicy | None = None,
    ) -> Scheduler:
        known = {"default": Tier(sheddable=False), **{tier.name: tier for tier in tiers}}
        capacity = Capacity(limits or Limits(), self.loads, self.reports)
        made = Scheduler(self.choose, capacity, known, bounds=bounds, policy=policy)
        made.workers_changed(self.endpoints(), 0.0)
        return made


@pytest.fixture
def fleet() -> type[Fleet]:
    return Fleet


@pytest.fixture
def ask() -> Callable[..., RequestInfo]:
    numbers = count()

    def make(tokens: int = 16_384, service_class: str = "default", **more: object) -> RequestInfo:
        return RequestInfo(
            f"r{next(numbers)}",
            "m",
            tokens,
            stream=True,
            service_class=service_class,
            **more,  # type: ignore[arg-type]
        )

    return make
