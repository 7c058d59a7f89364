"""Non-negative least squares for a handful of columns: exact, and without a numerics library."""

import math
from collections.abc import Sequence
from itertools import combinations

_SINGULAR = 1e-12
Matrix = Sequence[Sequence[float]]


class FitError(ValueError):
    """The samples do not determine a model."""


def non_negative_least_squares(rows: Matrix, targets: Sequence[float]) -> tuple[float, ...]:
    """The x >= 0 that minimises |rows @ x - targets|.

    Tries every set of columns that may be positive (Lawson and Hanson 1974, ch. 23: the optimum is the plain
    least-squares solution of one such set), so it is meant for about three columns. Raises FitError when the
    samples are fewer than the columns, not finite, or collinear.
    """
    _check(rows, targets)
    scales = [max(abs(row[j]) for row in rows) or 1.0 for j in range(len(rows[0]))]
    scaled = [[value / scale for value, scale in zip(row, scales, strict=True)] for row in rows]
    everything = range(len(scales))
    if _solve_columns(scaled, targets, tuple(everything)) is None:
        raise FitError("the samples are collinear: vary every input")
    best, best_residual = (0.0,) * len(scales), _residual(scaled, targets, (0.0,) * len(scales))
    for size in range(1, len(scales) + 1):
        for columns in combinations(everything, size):
            solution = _solve_columns(scaled, targets, columns)
            if solution is None or min(solution) < 0:
                continue
            residual = _residual(scaled, targets, solution)
            if residual < best_residual:
                best, best_residual = solution, residual
    return tuple(value / scale for value, scale in zip(best, scales, strict=True))


def _check(rows: Matrix, targets: Sequence[float]) -> None:
    if not rows or len(rows) < len(rows[0]):
        raise FitError(f"{len(rows)} samples are too few: at least {len(rows[0]) if rows else 1} are needed")
    if not all(math.isfinite(value) for row in rows for value in row) or not all(map(math.isfinite, targets)):
        raise FitError("every sample must be finite")


def _solve_columns(
    rows: Matrix, targets: Sequence[float], columns: tuple[int, ...]
) -> tuple[float, ...] | None:
    """Least squares over `columns` alone, zero elsewhere; None if they are collinear."""
    normal = [[math.fsum(row[i] * row[j] for row in rows) for j in columns] for i in columns]
    right = [math.fsum(row[i] * target for row, target in zip(rows, targets, strict=True)) for i in columns]
    solved = solve(normal, right)
    if solved is None:
        return None
    full = [0.0] * len(rows[0])
    for column, value in zip(columns, solved, strict=True):
        full[column] = value
    return tuple(full)


def solve(matrix: Matrix, right: Sequence[float]) -> list[float] | None:
    """Solves a square system by elimination with partial pivoting; None if it is singular."""
    work = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    size = len(work)
    smallest_pivot = _SINGULAR * max(abs(value) for row in matrix for value in row)
    for pivot in range(size):
        best = max(range(pivot, size), key=lambda i: abs(work[i][pivot]))
        if abs(work[best][pivot]) <= smallest_pivot:
            return None
        work[pivot], work[best] = work[best], work[pivot]
        for i in range(pivot + 1, size):
            factor = work[i][pivot] / work[pivot][pivot]
            work[i] = [x - factor * y for x, y in zip(work[i], work[pivot], strict=True)]
    solution = [0.0] * size
    for i in reversed(range(size)):
        known = sum(work[i][j] * solution[j] for j in range(i + 1, size))
        solution[i] = (work[i][size] - known) / work[i][i]
    return solution


def _residual(rows: Matrix, targets: Sequence[float], solution: Sequence[float]) -> float:
    return math.fsum(
        (sum(value * x for value, x in zip(row, solution, strict=True)) - target) ** 2
        for row, target in zip(rows, targets, strict=True)
    )
