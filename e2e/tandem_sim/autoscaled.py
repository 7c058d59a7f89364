"""The real planner over a simulated service: a scenario in, what happened out; the same for the same seed."""

from dataclasses import dataclass
from functools import partial
from random import Random

from tandem_operator.api import Role
from tandem_operator.planner.plan import plan
from tandem_operator.planner.types import Decision, PlannerConfig, PlannerState
from tandem_perf.slo import Outcome
from tandem_sim.clock import Clock
from tandem_sim.cluster import Cluster, Hardware
from tandem_sim.load import Load

_INTERVALS_PER_WINDOW = 4


@dataclass(frozen=True, slots=True)
class Scenario:
    """A load on a service whose two pools start with `replicas` each and have bounds. Times in seconds."""

    load: Load
    hardware: Hardware
    config: PlannerConfig
    seconds: float
    replicas: int = 2
    minimum: int = 1
    maximum: int = 16
    interval: float = 15.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Moment:
    """One pass of the planner: replicas wanted and ready by pool, and what it decided."""

    at: float
    rate: float
    desired: dict[Role, int]
    ready: dict[Role, int]
    decisions: tuple[Decision, ...]


@dataclass(frozen=True, slots=True)
class History:
    """Every pass, and every request with the moment of its end."""

    moments: tuple[Moment, ...]
    finished: tuple[tuple[float, Outcome], ...]
    unfinished: int

    def changes(self, since: float = 0.0) -> list[tuple[float, Decision]]:
        """Decisions that changed a pool, with their moment."""
        return [(m.at, d) for m in self.moments if m.at >= since for d in m.decisions if d.changes]

    def replicas(self, pool: Role, at: float) -> int:
        """Replicas wanted after the last pass up to `at`."""
        return [moment for moment in self.moments if moment.at <= at][-1].desired[pool]


def run(scenario: Scenario) -> History:
    """Plays the scenario; then lets what is in flight end without new arrivals."""
    clock = Clock()
    cluster = Cluster(clock, scenario.hardware, scenario.config.slo, scenario.replicas)
    for job in scenario.load.jobs(scenario.seconds, Random(scenario.seed)):
        clock.after(job.at, partial(cluster.submit, job))
    state, moments = PlannerState(), []
    for number in range(1, int(scenario.seconds / scenario.interval) + 1):
        clock.run(number * scenario.interval)
        moment, state = _pass(scenario, cluster, state, clock.now)
        moments.append(moment)
    clock.run(2 * scenario.seconds)
    return History(tuple(moments), cluster.finished.all(), cluster.in_flight)


def _pass(
    scenario: Scenario, cluster: Cluster, state: PlannerState, now: float
) -> tuple[Moment, PlannerState]:
    observation = cluster.observe(_INTERVALS_PER_WINDOW * scenario.interval)
    pools = cluster.planned(scenario.minimum, scenario.maximum)
    result = plan(observation, pools, state, now, scenario.config)
    for decision in result.decisions:
        cluster.pools[decision.role].scale(decision.desired)
    moment = Moment(
        at=now,
        rate=scenario.load.rate(now),
        desired={name: pool.desired for name, pool in cluster.pools.items()},
        ready={name: len(pool.ready) for name, pool in cluster.pools.items()},
        decisions=result.decisions,
    )
    return moment, result.state
