"""Policies by name: the built-in ones and those of installed packages (entry points `tandem.policies`)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

from tandem_router.disaggregation import Disaggregate, Mode
from tandem_router.policies import Filter, Picker, Rating, Scorer, Stay
from tandem_router.policies.adapters import AdapterLoaded, HasAdapter
from tandem_router.policies.cost import Cost
from tandem_router.policies.filters import EndpointFilter, PairFilter
from tandem_router.policies.kv_room import HasKvRoom, KvRoom
from tandem_router.policies.load import LeastLoaded
from tandem_router.policies.pick import Best
from tandem_router.policies.predicted import PredictedLatency
from tandem_router.policies.prefix_affinity import PrefixAffinity
from tandem_router.policies.prefix_match import PrefixMatch
from tandem_router.policies.queue_load import QueueLoad
from tandem_router.policies.session_affinity import SessionAffinity
from tandem_router.policies.softmax import Softmax
from tandem_router.policies.token_load import TokenLoad
from tandem_router.policies.topology import Near, OnlyNear

GROUP = "tandem.policies"
BUILT_IN: dict[str, Callable[[], Any]] = {
    "adapter-loaded": AdapterLoaded,
    "best": Best,
    "cost": Cost,
    "has-adapter": HasAdapter,
    "has-kv-room": HasKvRoom,
    "kv-room": KvRoom,
    "least-loaded": LeastLoaded,
    "near": Near,
    "only-near": OnlyNear,
    "predicted-latency": PredictedLatency,
    "prefix-affinity": PrefixAffinity,
    "prefix-match": PrefixMatch,
    "queue-load": QueueLoad,
    "session-affinity": SessionAffinity,
    "softmax": Softmax,
    "token-load": TokenLoad,
}


@dataclass(frozen=True, slots=True)
class Policy:
    """One way to choose: the filters hold, scores add up by weight, the picker takes one.

    `stay` says when a hand-over is not worth it; without `handovers` there are none at all while some worker
    can do both phases. The other fields sort the policies by what they look at: workers one by one, or pairs.
    """

    filters: tuple[Filter, ...]
    scorers: tuple[tuple[Scorer, float], ...]
    picker: Picker
    stay: Stay = field(default_factory=Disaggregate)
    handovers: bool = True
    endpoint_filters: tuple[Filter, ...] = field(init=False)
    pair_filters: tuple[Filter, ...] = field(init=False)
    ratings: tuple[tuple[Rating, float], ...] = field(init=False)
    pairings: tuple[tuple[Scorer, float], ...] = field(init=False)
    looks_at_places: bool = field(init=False)

    def __post_init__(self) -> None:
        self._set("endpoint_filters", tuple(f for f in self.filters if not isinstance(f, PairFilter)))
        self._set("pair_filters", tuple(f for f in self.filters if not isinstance(f, EndpointFilter)))
        self._set("ratings", tuple((s, weight) for s, weight in self.scorers if isinstance(s, Rating)))
        self._set("pairings", tuple((s, weight) for s, weight in self.scorers if not isinstance(s, Rating)))
        paired = (*self.pair_filters, *(scorer for scorer, _ in self.pairings))
        self._set("looks_at_places", any(getattr(each, "looks_at_places", False) for each in paired))

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)


DEFAULT = Policy(
    (),
    (
        (PredictedLatency(), 1.0),
        (PrefixMatch(), 0.3),
        (LeastLoaded(), 0.2),
        (PrefixAffinity(), 0.1),
    ),
    Best(),
)
"""The settings' defaults: objectives first, then caches, then room; affinity decides among equals."""


def make(name: str) -> Any:
    """A new policy object by name. ValueError, naming the known ones, if there is none."""
    if name in BUILT_IN:
        return BUILT_IN[name]()
    installed = {point.name: point for point in entry_points(group=GROUP)}
    if name not in installed:
        known = ", ".join(sorted({*BUILT_IN, *installed}))
        raise ValueError(f"unknown policy {name!r}; known: {known}")
    return installed[name].load()()


def build(filters: Sequence[str], scorers: Sequence[str], picker: str, mode: Mode = "auto") -> Policy:
    """A policy from names. A scorer may carry its weight: `least-loaded=2`.

    Raises ValueError for an unknown name, a weight that is none, or a policy of the wrong kind.
    """
    return Policy(
        tuple(_of_kind(name, "endpoint", "a filter") for name in filters),
        tuple(_weighted(text) for text in scorers),
        _of_kind(picker, "pick", "a picker"),
        stay=Disaggregate(mode),
        handovers=mode != "never",
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
