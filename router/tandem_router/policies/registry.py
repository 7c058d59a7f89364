"""Policies by name: the built-in ones and those of installed packages (entry points `tandem.policies`)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from tandem_router.policies import Filter, Picker, Scorer
from tandem_router.policies.filters import Model, Ready, Revision, Roles
from tandem_router.policies.load import LeastLoaded
from tandem_router.policies.pick import Best

GROUP = "tandem.policies"
BUILT_IN: dict[str, Callable[[], Any]] = {"least-loaded": LeastLoaded, "best": Best}
REQUIRED: tuple[Filter, ...] = (Ready(), Model(), Roles(), Revision())


@dataclass(frozen=True, slots=True)
class Policy:
    """One way to choose: the filters hold beside REQUIRED, scores add up by weight, the picker takes one."""

    filters: tuple[Filter, ...]
    scorers: tuple[tuple[Scorer, float], ...]
    picker: Picker


DEFAULT = Policy((), ((LeastLoaded(), 1.0),), Best())


def make(name: str) -> Any:
    """A new policy object by name. ValueError, naming the known ones, if there is none."""
    if name in BUILT_IN:
        return BUILT_IN[name]()
    installed = {point.name: point for point in entry_points(group=GROUP)}
    if name not in installed:
        known = ", ".join(sorted({*BUILT_IN, *installed}))
        raise ValueError(f"unknown policy {name!r}; known: {known}")
    return installed[name].load()()


def build(filters: Sequence[str], scorers: Sequence[str], picker: str) -> Policy:
    """A policy from names. A scorer may carry its weight: `least-loaded=2`.

    Raises ValueError for an unknown name, a weight that is none, or a policy of the wrong kind.
    """
    return Policy(
        tuple(_of_kind(name, "endpoint", "a filter") for name in filters),
        tuple(_weighted(text) for text in scorers),
        _of_kind(picker, "pick", "a picker"),
    )


def _weighted(text: str) -> tuple[Scorer, float]:
    name, _, number = text.partition("=")
    try:
        weight = float(number or "1")
    except ValueError:
        raise ValueError(f"{number!r} is not a weight: write a scorer as name or name=2") from None
    if not 0 < weight < float("inf"):
        raise ValueError(f"the weight of {name} must be positive and finite: {number}")
    return _of_kind(name, "score", "a scorer"), weight


def _of_kind(name: str, method: str, kind: str) -> Any:
    policy = make(name)
    if not hasattr(policy, method):
        raise ValueError(f"policy {name!r} is not {kind}")
    return policy
