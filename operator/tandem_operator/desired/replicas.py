"""Who decides a pool's size: the service at first and when its number changes, else who scaled it last."""

from dataclasses import dataclass

from tandem_operator.api import Pool


@dataclass(frozen=True, slots=True)
class LivePool:
    """A WorkerPool in the cluster: its size, and the service's number when the operator last set it."""

    replicas: int
    spec_replicas: int | None = None


def clamp(replicas: int, minimum: int | None, maximum: int | None) -> int:
    """The nearest number within the bounds that are given."""
    if minimum is not None:
        replicas = max(replicas, minimum)
    return replicas if maximum is None else min(replicas, maximum)


def resolve(pool: Pool, live: LivePool | None) -> int:
    """Replicas that the WorkerPool should have now."""
    keep = live is not None and live.spec_replicas == pool.replicas
    wanted = live.replicas if live is not None and keep else pool.replicas
    return clamp(wanted, pool.min_replicas, pool.max_replicas)
