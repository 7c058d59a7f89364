"""Whether a prompt is handed over or prefilled where it is decoded: the lower predicted cost wins. Pure."""

import math
from typing import Literal

from tandem_perf.latency import PrefillModel
from tandem_router.types import Pair, Prediction, RequestInfo, Role

Mode = Literal["auto", "always", "never"]

UNKNOWN_BREAK_EVEN = 256
"""While nothing is predicted, a mixed worker takes prompts below this many tokens whole."""


def why_local(
    request: RequestInfo,
    whole: Pair,
    local: Prediction | None,
    handover: Prediction | None,
    *,
    mode: Mode = "auto",
    cached: int = 0,
) -> str | None:
    """Why the request stays on `whole`'s worker although a hand-over is possible; None: hand it over.

    `local` and `handover` are predicted for the best way of each kind; `cached` tokens of the prompt are on
    `whole`'s worker already. Reasons: `never`, `short_prompt`, `mostly_cached`, `prefill_busy`.
    """
    if mode == "always":
        return None
    if mode == "never":
        return "never"
    if local is None or handover is None:
        short = request.prompt_tokens - cached < UNKNOWN_BREAK_EVEN and whole.decode.role is Role.MIXED
        return _short(cached) if short else None
    if local.cost > handover.cost:
        return None
    busy = handover.queue > local.queue and local.cost > handover.cost - handover.queue
    return "prefill_busy" if busy else _short(cached)


def _short(cached: int) -> str:
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
    if constant > 0 and linear >= 0 and square >= 0:
        return 0.0
    if square == 0:
        return -constant / linear if linear > 0 else math.inf
    root = linear * linear - 4 * square * constant
    if square < 0 or root < 0:
        return 0.0 if square > 0 else math.inf
    return max(0.0, (-linear + math.sqrt(root)) / (2 * square))
