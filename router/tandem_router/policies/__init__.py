"""The seam of scheduling: filters drop workers and pairs, scorers rate them, a picker takes one. All pure."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple, Protocol

from tandem_router.types import Endpoint, Load, Objective, Pair, Prediction, Report, RequestInfo
from tandem_router.values import quick


class Predictor(Protocol):
    """The latency model."""

    def predict(self, request: RequestInfo, pair: Pair, view: "View", /) -> Prediction | None:
        """None while too little is known."""
        ...

    def predict_all(
        self, request: RequestInfo, pairs: Sequence[Pair], view: "View", /
    ) -> Sequence[Prediction | None]:
        """`predict` for each pair, in their order; what pairs share is worked out once."""
        ...

    def objective(self, request: RequestInfo, /) -> Objective:
        """What the request's class is promised."""
        ...


@quick
@dataclass(frozen=True, slots=True)
class View:
    """What is known when one request is placed. Mappings are by the workers' names; an absent worker is idle,
    has reported nothing, or has none of the prompt cached.

    `matches`: prompt tokens that a worker has cached. `ejected`: workers that get no requests for now.
    """

    loads: Mapping[str, Load] = field(default_factory=dict)
    reports: Mapping[str, Report] = field(default_factory=dict)
    matches: Mapping[str, int] = field(default_factory=dict)
    ejected: frozenset[str] = frozenset()
    predictor: Predictor | None = None


NOTHING_KNOWN = View()


class Filter(Protocol):
    """Says what may serve a request: first each worker alone, then each pair of workers that passed."""

    def endpoint(self, request: RequestInfo, endpoint: Endpoint, view: View, /) -> bool: ...

    def pair(self, request: RequestInfo, pair: Pair, view: View, /) -> bool: ...


class Scorer(Protocol):
    """Rates candidates, each in [0, 1], higher is better, in their order. Called once per decision.

    One with the attribute `looks_at_places = True` gets pairs in one place among those to rate.
    """

    def score(self, request: RequestInfo, pairs: Sequence[Pair], view: View, /) -> Sequence[float]: ...


class Rating(ABC):
    """A scorer that rates workers one by one: much cheaper where there are many, so preferred.

    A pair's score is the weighted mean of its two workers' ratings.
    """

    prefill_share = 0.5

    @abstractmethod
    def rate(self, request: RequestInfo, endpoints: Sequence[Endpoint], view: View, /) -> Sequence[float]:
        """Each in [0, 1], higher is better, in their order. All have one role, or are decode and mixed."""

    def score(self, request: RequestInfo, pairs: Sequence[Pair], view: View, /) -> Sequence[float]:
        workers = {e.name: e for pair in pairs for e in pair.workers}
        rated = dict(zip(workers, self.rate(request, list(workers.values()), view), strict=True))
        share = self.prefill_share
        return [
            rated[pair.decode.name]
            if pair.prefill is None
            else share * rated[pair.prefill.name] + (1 - share) * rated[pair.decode.name]
            for pair in pairs
        ]


class Scored(NamedTuple):
    score: float
    pair: Pair


class Stay(Protocol):
    """Says when one worker should do both phases although a hand-over is possible."""

    def local(
        self, request: RequestInfo, handover: Scored, mixed: Scored | None, view: View, /
    ) -> tuple[Pair, str] | None:
        """The worker, without a prefill worker, and a reason for `x-tandem-path: local`; None to hand over.

        `mixed` is the best mixed worker; the pair's decode worker can do both phases as well.
        """
        ...


class Picker(Protocol):
    """Takes one of the candidates: an index into `scores`, which is not empty."""

    def pick(self, scores: Sequence[float], rng: Random, /) -> int: ...
