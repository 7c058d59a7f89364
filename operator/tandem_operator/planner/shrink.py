"""Whether a pool would still meet the objective with one worker less."""

import math

from tandem_operator.planner.signals import DECODE_ROLES, Signal, missed_objective
from tandem_operator.planner.types import (
    Observation,
    PlannedPool,
    PlannerConfig,
    PoolMemory,
    PoolObservation,
)

_SAFE_RATE = 0.8


def obstacle(
    nearest: Signal,
    pool: PlannedPool,
    observation: Observation,
    memory: PoolMemory,
    config: PlannerConfig,
) -> str | None:
    """What speaks against one worker less; None if nothing does.

    `nearest` is the signal that is nearest to its limit; the pool has at least one worker.
    """
    seen = observation.pools[pool.name]
    if pool.current <= max(pool.minimum, 1):
        return f"{nearest.text}; at the minimum of {max(pool.minimum, 1)}"
    if pool.ready < pool.current or seen.workers < pool.current:
        return f"{min(pool.ready, seen.workers)} of {pool.current} replicas are ready and report"
    missed = missed_objective(pool, observation, config)
    if missed:
        return missed.text
    if nearest.value * pool.current / (pool.current - 1) > config.fit_share:
        return f"{nearest.text}: {pool.current - 1} would be too few"
    limit = memory.limits.get(pool.current - 1)
    if limit and seen.rate > _SAFE_RATE * limit.rate:
        return f"{seen.rate:.1f} requests/s: {pool.current - 1} were too few for {limit.rate:.1f}"
    return _slow_decode(pool, seen, memory, config) if pool.role in DECODE_ROLES else None


def _slow_decode(
    pool: PlannedPool, seen: PoolObservation, memory: PoolMemory, config: PlannerConfig
) -> str | None:
    """Fewer workers run larger batches: whether their steps would be too long."""
    if seen.decode_step is None or memory.step_floor is None:
        return None
    floor = memory.step_floor.seconds
    fewer = pool.current - 1
    step = predicted_step(floor, seen.decode_step, pool.current / fewer)
    if step > floor + config.fit_share * (config.slo.tpot - floor):
        expected = f"{step * 1000:.0f} ms" if math.isfinite(step) else "an endless queue"
        return f"{seen.decode_step * 1000:.0f} ms a token: {fewer} would give {expected}"
    return None


def predicted_step(floor: float, step: float, factor: float) -> float:
    """Seconds of a decode step when each worker gets `factor` times the requests; infinite if too much.

    With a step of `a + b * batch`, a = `floor`, and a batch of rate * tokens * step (Little's law), the step
    is a / (1 - u), where u = b * rate * tokens grows with the requests.
    """
    utilisation = max(0.0, 1 - floor / step) * factor
    return floor / (1 - utilisation) if utilisation < 1 else math.inf
