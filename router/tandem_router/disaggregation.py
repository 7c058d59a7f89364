"""Whether a prompt is handed over or prefilled where it is decoded: the lower predicted cost wins. Pure."""

import math
from typing import Literal

from tandem_perf.latency import PrefillModel
from tandem_router.engines.limits import HANDOVER_ONLY
from tandem_router.policies import Scored, View
from tandem_router.policies.stay import ShortPrompts
from tandem_router.types import Pair, Prediction, RequestInfo

Mode = Literal["auto", "always", "never"]


class Disaggregate:
    """Implements `policies.Stay`. `auto` compares predictions; while there are none, only short prompts stay.

    Reasons for staying: `short_prompt`, `mostly_cached` (there is little left to compute) and `prefill_busy`
    (the hand-over would pay, but for the queue in front of the prefill worker).
    """

    def __init__(self, mode: Mode = "auto") -> None:
        self._mode = mode
        self._unknown = ShortPrompts()

    def local(
        self, request: RequestInfo, handover: Scored, mixed: Scored | None, view: View, /
    ) -> tuple[Pair, str] | None:
        if self._mode != "auto":
            return None
        if view.predictor is None:
            return self._unknown.local(request, handover, mixed, view)
        decode = handover.pair.decode
        wholes = [] if decode.engine in HANDOVER_ONLY else [Pair(None, decode)]
        if mixed is not None:
            wholes.append(mixed.pair)
        remote, *local = view.predictor.predict_all(request, (handover.pair, *wholes), view)
        known = [(p.cost, i) for i, p in enumerate(local) if p is not None]
        if remote is None or not known:
            return self._unknown.local(request, handover, mixed, view)
        cost, index = min(known)
        if cost > remote.cost:
            return None
        whole = wholes[index]
        return whole, _why(cost, remote, view.matches.get(whole.decode.name, 0))


def _why(cost: float, remote: Prediction, cached: int) -> str:
    if cost > remote.cost - remote.queue:
        return "prefill_busy"
    return "mostly_cached" if cached else "short_prompt"


def break_even(
    local: PrefillModel, remote: PrefillModel, *, held_up: float, fixed: float, per_token: float
) -> float:
    """The uncached tokens from which on a hand-over costs less than prefilling on the decode worker.

    `local` and `remote` are the decode and the prefill worker's models. Each of `held_up` streams waits while
    the decode worker prefills; a hand-over takes `fixed + per_token * n` seconds more. Infinite if never.
    """
    factor = 1 + held_up
    constant = factor * local.a - remote.a - fixed
    linear = factor * local.b - remote.b - per_token
    square = (factor * local.c - remote.c) / 2
    return _first_positive(constant, linear, square)


def _first_positive(constant: float, linear: float, square: float) -> float:
    """The least n >= 0 from which on `constant + linear n + square n^2` is positive; infinite if none is."""
    if square == 0:
        if linear == 0:
            return 0.0 if constant > 0 else math.inf
        return max(0.0, -constant / linear) if linear > 0 else math.inf
    if square < 0:
        return math.inf
    root = linear * linear - 4 * square * constant
    return 0.0 if root < 0 else max(0.0, (math.sqrt(root) - linear) / (2 * square))
