"""What is simulated: pools of workers, routers in front of them, and their settings."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from tandem_perf.profile import Profile
from tandem_router.policies.registry import DEFAULT, Policy
from tandem_router.predict.build import objectives
from tandem_router.predict.models import Seed
from tandem_router.queueing.tiers import Tier, tiers
from tandem_router.types import Endpoint, Objective, Role
from tandem_sim.clock import Clock
from tandem_sim.serving.machine import Machine
from tandem_sim.serving.worker import Worker
from tandem_wire.router_settings import RouterSettings

if TYPE_CHECKING:
    from tandem_sim.serving.door import Door, Scheduler

MODEL = "sim"
OBJECTIVE = Objective(ttft=0.5, tpot=0.05)


@dataclass(frozen=True, slots=True)
class Pool:
    """So many equal workers of one role."""

    role: Role
    replicas: int
    machine: Machine
    gpu: str = "h200"
    cost: float = 1.0


@dataclass(frozen=True, slots=True)
class Service:
    """`objective` is that of the class `default`; other classes come from `settings`.

    `profile` is what the routers believe at first. `doors`: routers that share nothing; each call goes to any
    of them, a session's all to one. `report_every`, `report_delay`: how often workers tell of their load, and
    how old that is on arrival. `make_scheduler` replaces the scheduler that the settings give.
    """

    pools: Sequence[Pool]
    objective: Objective = OBJECTIVE
    settings: RouterSettings = field(default_factory=RouterSettings)
    policy: Policy = DEFAULT
    profile: Profile | None = None
    doors: int = 1
    report_every: float = 1.0
    report_delay: float = 0.1
    seed: int = 0
    make_scheduler: "Callable[[Door], Scheduler] | None" = None

    def tier(self) -> Tier:
        """The class of calls that name none."""
        ttft, tpot = self.objective
        return Tier(ttft=_finite(ttft), tpot=_finite(tpot))

    def objectives(self) -> dict[str, Objective]:
        """By class."""
        return objectives(tiers(self.settings.classes, self.tier()))

    def seeds(self) -> tuple[Seed, ...]:
        return () if self.profile is None else (Seed(self.profile),)

    def workers(self, clock: Clock, random: Random) -> dict[str, Worker]:
        """New workers, by name."""
        found: dict[str, Worker] = {}
        for number, pool in enumerate(self.pools):
            for index in range(pool.replicas):
                name = f"{pool.role}{number}-{index}"
                endpoint = Endpoint(
                    name,
                    name,
                    8100,
                    pool.role,
                    f"{pool.role}{number}",
                    "sim",
                    MODEL,
                    "1",
                    True,
                    pool.gpu,
                    "",
                    pool.cost,
                )
                found[name] = Worker(clock, endpoint, pool.machine, Random(random.random()))
        return found


def _finite(seconds: float) -> float | None:
    return seconds if seconds < math.inf else None
