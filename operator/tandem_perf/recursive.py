"""Recursive least squares with forgetting, for a handful of non-negative coefficients."""

import math
from collections.abc import Sequence


class RecursiveFit:
    """Follows `seconds ~ row @ x`, x >= 0, one sample at a time (Ljung, System Identification, 1999, ch. 11).

    Errors count relative to the measured time, so short steps count as much as long ones. `prior` is the
    first guess, each coefficient known up to a factor of about `1 + doubt`. What was learned fades with
    `forgetting` per sample, but never below the prior's certainty, so a load that always asks the same
    keeps the rest intact.
    """

    def __init__(
        self, prior: Sequence[float], *, doubt: float, noise: float = 0.1, forgetting: float = 0.995
    ) -> None:
        if not all(math.isfinite(value) and value > 0 for value in prior):
            raise ValueError(f"a first guess must be positive: {list(prior)}")
        if not (doubt > 0 and noise > 0 and 0 < forgetting <= 1):
            raise ValueError("doubt and noise must be positive, forgetting in (0, 1]")
        self._forgetting = forgetting
        self._limits = [(value * doubt / noise) ** 2 for value in prior]
        self._covariance = [
            [limit if i == j else 0.0 for j in range(len(prior))] for i, limit in enumerate(self._limits)
        ]
        self._free = list(prior)
        self.coefficients: tuple[float, ...] = tuple(prior)
        self.samples = 0

    def predict(self, row: Sequence[float]) -> float:
        """Seconds."""
        return sum(map(_product, row, self.coefficients))

    def observe(self, row: Sequence[float], seconds: float, known: float = 0.0) -> None:
        """Takes in one measured time, of which `known` seconds are explained by something else.

        The error of a sample counts for 100 % at most: a stall or a wrong measurement moves little.
        """
        if not (math.isfinite(seconds) and seconds > 0):
            raise ValueError(f"a measured time must be positive and finite: {seconds}")
        free = self._free
        expected = known + sum(map(_product, row, free))
        scale = max(seconds, expected)
        scaled = [value / scale for value in row]
        error = (seconds - expected) / scale
        reach = [sum(map(_product, line, scaled)) for line in self._covariance]
        weight = self._forgetting + sum(map(_product, scaled, reach))
        gain = [value / weight for value in reach]
        self._free = [value + g * error for value, g in zip(free, gain, strict=True)]
        self._shrink(gain, reach)
        self.coefficients = self._projected()
        self.samples += 1

    def _shrink(self, gain: Sequence[float], reach: Sequence[float]) -> None:
        """What the sample told, what is forgotten, and the bound to it."""
        covariance, forgetting, size = self._covariance, self._forgetting, range(len(gain))
        for i in size:
            line = covariance[i]
            for j in size:
                line[j] = (line[j] - gain[i] * reach[j]) / forgetting
        factors = [
            math.sqrt(limit / covariance[i][i]) if covariance[i][i] > limit else 1.0
            for i, limit in enumerate(self._limits)
        ]
        if min(factors) < 1.0:
            for i in size:
                for j in size:
                    covariance[i][j] *= factors[i] * factors[j]

    def _projected(self) -> tuple[float, ...]:
        """The nearest non-negative coefficients: what one cannot take is shared out as the samples allow."""
        values = self._free
        if min(values) >= 0:
            return tuple(values)
        values = list(values)
        for i, value in enumerate(values):
            if value < 0 and self._covariance[i][i] > 0:
                step = value / self._covariance[i][i]
                values = [v - self._covariance[j][i] * step for j, v in enumerate(values)]
        return tuple(max(0.0, value) for value in values)


def _product(x: float, y: float) -> float:
    return x * y
