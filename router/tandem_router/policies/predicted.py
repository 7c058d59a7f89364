"""Predicted latency: prefers pairs that meet the class's objectives with room, and of those cheaper ones."""

import math
from collections.abc import Sequence

from tandem_router.policies import View
from tandem_router.types import Objective, Pair, Prediction, RequestInfo

UNKNOWN = 0.5
"""What a pair scores of which nothing is known: as one that just meets its objectives."""
ROOM_ENOUGH = 0.5
"""A pair that needs no more than this share of its objectives gains nothing from needing less."""
_ROOM_WEIGHT = 0.35
_COST_WEIGHT = 0.15


class PredictedLatency:
    """Above 0.5 for pairs that meet the objectives, below for those that miss one, the more so the worse."""

    def score(self, request: RequestInfo, pairs: Sequence[Pair], view: View, /) -> Sequence[float]:
        predictor = view.predictor
        if predictor is None:
            return [UNKNOWN] * len(pairs)
        objective = predictor.objective(request)
        predictions = predictor.predict_all(request, pairs, view)
        return [UNKNOWN if p is None else rated(p, objective) for p in predictions]


def rated(prediction: Prediction, objective: Objective) -> float:
    """The score of one pair, in [0, 1]."""
    needed = max(prediction.ttft / objective.ttft, prediction.tpot / objective.tpot)
    if needed > 1:
        return 0.5 / needed
    room = min(1.0, (1 - needed) / (1 - ROOM_ENOUGH))
    scale = objective.ttft if objective.ttft < math.inf else 1.0
    return 0.5 + _ROOM_WEIGHT * room + _COST_WEIGHT * scale / (scale + prediction.cost)
