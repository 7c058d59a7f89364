"""Least loaded: prefers workers with few requests and few prompt tokens in flight."""

from collections.abc import Sequence

from tandem_router.policies import Loads
from tandem_router.types import IDLE, Load, Pair, RequestInfo

TOKENS_PER_REQUEST = 2048
"""Prompt tokens in flight that weigh as much as one more request."""


def spare(load: Load) -> float:
    """1 for an idle worker, towards 0 with load."""
    return 1 / (1 + load.requests + load.tokens / TOKENS_PER_REQUEST)


class LeastLoaded:
    """The mean of both workers' spare room, so that each side of a pair is the least loaded one."""

    def score(self, _request: RequestInfo, pairs: Sequence[Pair], loads: Loads, /) -> Sequence[float]:
        names = {pair.decode.name for pair in pairs}
        names.update(pair.prefill.name for pair in pairs if pair.prefill is not None)
        room = {name: spare(loads.get(name, IDLE)) for name in names}
        return [
            room[pair.decode.name]
            if pair.prefill is None
            else (room[pair.prefill.name] + room[pair.decode.name]) / 2
            for pair in pairs
        ]
