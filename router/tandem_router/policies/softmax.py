"""Softmax: what has a better score is taken more often, so that routers do not all take the same."""

import math
from collections.abc import Sequence
from random import Random

TEMPERATURE = 0.05
"""A score that is this much better is taken e times as often."""


class Softmax:
    def pick(self, scores: Sequence[float], rng: Random, /) -> int:
        top = max(scores)
        weights = [math.exp((score - top) / TEMPERATURE) for score in scores]
        return rng.choices(range(len(scores)), weights)[0]
