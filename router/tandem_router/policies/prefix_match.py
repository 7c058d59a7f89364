"""Prefix match: prefers workers with much of the prompt cached, as KV events or this router's memory tell."""

from collections.abc import Sequence

from tandem_router.policies import Rating, View
from tandem_router.types import Endpoint, RequestInfo


class PrefixMatch(Rating):
    """The cached share of the prompt. On a decode worker it only saves a part of the hand-over."""

    prefill_share = 0.8

    def rate(self, request: RequestInfo, endpoints: Sequence[Endpoint], view: View, /) -> Sequence[float]:
        matches, tokens = view.matches, max(request.prompt_tokens, 1)
        if not matches:
            return [0.0] * len(endpoints)
        return [min(1.0, matches[e.name] / tokens) if e.name in matches else 0.0 for e in endpoints]
