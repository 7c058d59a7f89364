"""The best score wins; ties are broken by the injected random numbers, so that equals share the load."""

from collections.abc import Sequence
from random import Random


class Best:
    def pick(self, scores: Sequence[float], rng: Random, /) -> int:
        top = max(scores)
        best = [index for index, score in enumerate(scores) if score == top]
        return best[0] if len(best) == 1 else rng.choice(best)
