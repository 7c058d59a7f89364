"""A request's place in line: one number, so that waiting costs no recomputing. The smallest goes first.

Every place grows with the time of arrival. So only a bounded span of later arrivals can go before a request,
and nobody starves.
"""

from collections.abc import Callable
from math import inf

from tandem_router.queueing.waiting import Waiting

PATIENCE = 30.0
"""Seconds that a request without an objective is taken to have."""

Order = Callable[[Waiting], float]


def by_arrival(waiting: Waiting) -> float:
    """First come, first served."""
    return waiting.arrived


def by_slack(waiting: Waiting) -> float:
    """Least slack first: deadline - now - predicted service, whose order does not depend on now."""
    return waiting.latest if waiting.latest < inf else waiting.arrived + PATIENCE


def aged(order: Order, ageing: float) -> Order:
    """Priorities that age: each step is worth `ageing` seconds of waiting."""
    return lambda waiting: order(waiting) - ageing * waiting.tier.priority
