"""What one decision is about, and which workers it may take. Pure."""

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from tandem_router.policies import View
from tandem_router.policies.registry import Policy
from tandem_router.types import Endpoint, Pair, RequestInfo


class Question(NamedTuple):
    """`barred` are the names of workers that are ruled out."""

    request: RequestInfo
    view: View
    rng: Random
    policy: Policy
    barred: frozenset[str]

    def allowed(self, endpoints: Sequence[Endpoint]) -> Sequence[Endpoint]:
        """Those that are not ruled out and pass the filters."""
        if self.barred:
            endpoints = [e for e in endpoints if e.name not in self.barred]
        for f in self.policy.endpoint_filters:
            endpoints = [e for e in endpoints if f.endpoint(self.request, e, self.view)]
        return endpoints

    def passing(self, pairs: list[Pair]) -> list[Pair]:
        """Those that pass the filters as pairs."""
        for f in self.policy.pair_filters:
            pairs = [pair for pair in pairs if f.pair(self.request, pair, self.view)]
        return pairs
