"""The seam of scheduling: filters drop pairs, scorers rate them, a picker takes one. All are pure."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Protocol

from tandem_router.types import Endpoint, Load, Pair, RequestInfo

Loads = Mapping[str, Load]
"""Endpoint name -> its load; an absent one is idle."""


class Filter(Protocol):
    """Says what may serve a request: first each worker alone, then each pair of workers that passed."""

    def endpoint(self, request: RequestInfo, endpoint: Endpoint, /) -> bool: ...

    def pair(self, request: RequestInfo, pair: Pair, /) -> bool: ...


class Scorer(Protocol):
    """Rates candidates, each in [0, 1], higher is better, in their order. Called once per decision."""

    def score(self, request: RequestInfo, pairs: Sequence[Pair], loads: Loads, /) -> Sequence[float]: ...


class Picker(Protocol):
    """Takes one of the candidates: an index into `scores`, which is not empty."""

    def pick(self, scores: Sequence[float], rng: Random, /) -> int: ...
