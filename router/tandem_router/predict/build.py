"""A forecaster from settings."""

import math
from collections.abc import Callable, Iterable, Mapping

from tandem_perf.profile import load
from tandem_router.predict.forecaster import Forecaster
from tandem_router.predict.models import Seed
from tandem_router.queueing.tiers import Tier
from tandem_router.types import Objective
from tandem_wire.router_settings import SeedProfile


def forecaster(
    clock: Callable[[], float], tiers: Mapping[str, Tier], profiles: Iterable[SeedProfile]
) -> Forecaster:
    """Raises ValueError, naming the known ones, for a profile that there is not; OSError for its file."""
    seeds = [Seed(load(given.profile), given.model, given.gpu) for given in profiles]
    return Forecaster(clock, objectives(tiers), seeds)


def objectives(tiers: Mapping[str, Tier]) -> dict[str, Objective]:
    """By class; what a class does not promise is infinite."""
    return {name: Objective(_or_none(tier.ttft), _or_none(tier.tpot)) for name, tier in tiers.items()}


def _or_none(seconds: float | None) -> float:
    return math.inf if seconds is None else seconds
