"""Whether a pool would still meet the objective with one worker less."""

from collections.abc import Sequence

from tandem_operator.planner.signals import DECODE_ROLES, Signal, missed_objective, prefill_busy, worst
from tandem_operator.planner.types import Observation, PlannedPool, PlannerConfig, PoolMemory

_SAFE_DEMAND = 0.8


def obstacle(
    signals: Sequence[Signal],
    pool: PlannedPool,
    observation: Observation,
    memory: PoolMemory,
    config: PlannerConfig,
) -> str | None:
    """What speaks against one worker less; None if nothing does. `pool` has at least one worker."""
    seen = observation.pools[pool.name]
    if pool.current <= max(pool.minimum, 1):
        return f"{worst(signals).text}; at the minimum of {max(pool.minimum, 1)}"
    if pool.ready < pool.current or seen.workers < pool.current:
        return f"{min(pool.ready, seen.workers)} of {pool.current} replicas are ready and report"
    missed = missed_objective(pool, observation, config)
    if missed:
        return missed.text
    busy = prefill_busy(pool, seen)
    nearest = worst([*signals, busy] if busy else signals)
    if nearest.value * pool.current / (pool.current - 1) > config.fit_share:
        return f"{nearest.text}: {pool.current - 1} would be too few"
    limit = memory.limits.get(pool.current - 1) if pool.role in DECODE_ROLES else None
    if limit and seen.demand > _SAFE_DEMAND * limit.demand:
        return f"{seen.demand} requests at once: {pool.current - 1} were too few for {limit.demand}"
    return None
