"""Whether prompts are handed over as the spec says, by the paths that requests took. Pure."""

from collections.abc import Mapping
from typing import NamedTuple

from tandem_operator.api import LLMService
from tandem_operator.conditions import Finding

TYPE = "Disaggregating"
ENOUGH = 10
"""From so many requests on they say something."""
ALMOST_ALL = 0.95
SOME = 0.1


class Route(NamedTuple):
    """A path and why it was taken, as `tandem_router_path_total` has them."""

    path: str
    reason: str


Paths = Mapping[Route, float]
"""Requests of the last minutes."""

DONE_AT_ONCE = "finished_at_first_token"
"""There was nothing to hand over."""


def disaggregating(service: LLMService, paths: Paths | None) -> Finding | None:
    """The condition; None for a service that has no prefill workers and wants none."""
    mode = service.spec.router.disaggregation.mode
    if not any(pool.role == "prefill" for pool in service.spec.pools):
        if mode != "always":
            return None
        return Finding(TYPE, False, "NoPrefillPool", "the spec says always, and has no prefill pool")
    if mode == "never":
        return Finding(TYPE, False, "TurnedOff", "the spec says never")
    if paths is None:
        return Finding(TYPE, None, "TooFewRequests", f"fewer than {ENOUGH} requests tell of it so far")
    return _judged(mode, paths)


def enough(paths: Paths) -> bool:
    """Whether they say something."""
    return sum(paths.values()) >= ENOUGH


def _judged(mode: str, paths: Paths) -> Finding:
    """Messages hold no numbers: each new one would be a write of status."""
    told = {route: count for route, count in paths.items() if route.reason != DONE_AT_ONCE}
    total = sum(told.values()) or 1.0
    handed = sum(count for route, count in told.items() if route.path == "disaggregated") / total
    fallen = sum(count for route, count in told.items() if route.path == "fallback") / total
    if told and handed == 0 and fallen <= SOME:
        return Finding(TYPE, False, "SilentLocal", f"no prompt is handed over: {_commonest(told)}")
    if fallen > SOME:
        return Finding(TYPE, False, "FallingBack", f"hand-overs fail: {_commonest(told, 'fallback')}")
    if mode == "always" and told and handed < ALMOST_ALL:
        return Finding(TYPE, False, "PartlyLocal", f"the spec says always: {_commonest(told)}")
    return Finding(TYPE, True, "HandingOver", "prompts are handed over as the spec says")


def _commonest(paths: Paths, path: str | None = None) -> str:
    others = {
        r: n for r, n in paths.items() if r.path == path or (path is None and r.path != "disaggregated")
    }
    route = max(others, key=lambda r: (others[r], r))
    return f"most others are {route.path} because of {route.reason}"
