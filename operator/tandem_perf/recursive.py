"""Least squares that goes on with each sample and forgets, for a handful of non-negative coefficients."""

import math
from collections.abc import Sequence

from tandem_perf.least_squares import solve


class RecursiveFit:
    """Follows `seconds ~ row @ x`, x >= 0, one sample at a time (Ljung, System Identification, 1999, ch. 11).

    Errors count relative to the measured time, so short steps count as much as long ones. `prior` is the
    first guess, each coefficient known up to a factor of about `1 + doubt`. Samples fade with `forgetting`,
    the prior does not: a load that always asks the same keeps the rest intact, and a solution always exists.
    """

    def __init__(
        self, prior: Sequence[float], *, doubt: float, noise: float = 0.1, forgetting: float = 0.995
    ) -> None:
        if not all(math.isfinite(value) and value > 0 for value in prior):
            raise ValueError(f"a first guess must be positive: {list(prior)}")
        if not (doubt > 0 and noise > 0 and 0 < forgetting <= 1):
            raise ValueError("doubt and noise must be positive, forgetting in (0, 1]")
        self._prior, self._forgetting = tuple(prior), forgetting
        self._hold = (noise / doubt) ** 2
        self._squares = [[0.0] * len(prior) for _ in prior]
        self._products = [0.0] * len(prior)
        self.coefficients = self._prior
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
        scale = max(seconds, known + self.predict(row))
        scaled = [value * prior / scale for value, prior in zip(row, self._prior, strict=True)]
        target, keep = (seconds - known) / scale, self._forgetting
        for i, value in enumerate(scaled):
            line = self._squares[i]
            self._squares[i] = [keep * old + value * other for old, other in zip(line, scaled, strict=True)]
            self._products[i] = keep * self._products[i] + value * target
        self.samples += 1
        self._solve()

    def _solve(self) -> None:
        """The best non-negative coefficients, in units of the prior: the worst negative one is left out."""
        columns = list(range(len(self._prior)))
        solution: list[float] = []
        while columns:
            matrix = [
                [self._squares[i][j] + (self._hold if i == j else 0.0) for j in columns] for i in columns
            ]
            found = solve(matrix, [self._products[i] + self._hold for i in columns])
            if found is None:
                return
            solution, worst = found, min(range(len(columns)), key=found.__getitem__)
            if found[worst] >= 0:
                break
            del columns[worst], solution[worst]
        values = dict(zip(columns, solution, strict=True))
        self.coefficients = tuple(values.get(i, 0.0) * prior for i, prior in enumerate(self._prior))


def _product(x: float, y: float) -> float:
    return x * y
