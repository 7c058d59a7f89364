"""Workers far from the others of their pool. Pure."""

from collections.abc import Mapping
from statistics import median

from tandem_router.health.breaker import Reason
from tandem_router.health.window import Window

MIN_WORKERS = 3
"""Of fewer, none can be said to be the odd one."""
MIN_OUTCOMES = 20
FAILURE_SHARE = 0.5
"""A worker that fails so often is ejected whatever the others do."""
SHARE_ABOVE_MEDIAN = 0.2
MIN_STREAMS = 10
TIMES_SLOWER = 3.0
SECONDS_SLOWER = 0.02
"""Per token: what is this near to the median is not worth a worker, however many times slower."""


def failing(windows: Mapping[str, Window], now: float) -> dict[str, Reason]:
    """Workers by name -> why: those that fail often, and those that fail more often than the others."""
    shares = {name: window.failure_share(now, MIN_OUTCOMES) for name, window in windows.items()}
    known = {name: share for name, share in shares.items() if share is not None}
    found = {name: Reason.SHARE for name, share in known.items() if share >= FAILURE_SHARE}
    if len(known) >= MIN_WORKERS:
        limit = median(known.values()) + SHARE_ABOVE_MEDIAN
        found |= {name: Reason.OUTLIER for name, share in known.items() if limit < share < FAILURE_SHARE}
    return found


def slow(windows: Mapping[str, Window], now: float) -> dict[str, Reason]:
    """By output tokens: unlike prefills, they take the same time whatever the prompt or the cache was."""
    paces = {name: window.mean_pace(now, MIN_STREAMS) for name, window in windows.items()}
    known = {name: pace for name, pace in paces.items() if pace is not None}
    if len(known) < MIN_WORKERS:
        return {}
    usual = median(known.values())
    limit = max(usual * TIMES_SLOWER, usual + SECONDS_SLOWER)
    return {name: Reason.SLOW for name, pace in known.items() if pace > limit}
