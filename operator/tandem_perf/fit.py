"""Latency models from measured samples, by least relative error: short steps count as much as long ones."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tandem_perf.latency import Chunk, DecodeModel, PrefillModel, TransferModel
from tandem_perf.least_squares import FitError, non_negative_least_squares


@dataclass(frozen=True, slots=True)
class PrefillSample:
    """One measured prefill step."""

    chunks: tuple[Chunk, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class DecodeSample:
    """One measured decode step over `batch` sequences whose contexts sum up to `kv_tokens`."""

    batch: int
    kv_tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class TransferSample:
    """One measured hand-over."""

    num_bytes: int
    seconds: float


Sample = TypeVar("Sample", PrefillSample, DecodeSample, TransferSample)


def fit_prefill(samples: Sequence[PrefillSample]) -> PrefillModel:
    """The prefill model nearest to the samples. Raises FitError when they do not determine one."""
    rows = [
        (1.0, float(sum(c.new_tokens for c in s.chunks)), sum(c.attended_tokens for c in s.chunks))
        for s in samples
    ]
    return PrefillModel(*_fit(rows, [s.seconds for s in samples]))


def fit_decode(samples: Sequence[DecodeSample]) -> DecodeModel:
    """The decode model nearest to the samples. Raises FitError when they do not determine one."""
    rows = [(1.0, float(s.batch), float(s.kv_tokens)) for s in samples]
    return DecodeModel(*_fit(rows, [s.seconds for s in samples]))


def fit_transfer(samples: Sequence[TransferSample]) -> TransferModel:
    """The transfer model nearest to the samples. Raises FitError when they do not determine one."""
    a, seconds_per_byte = _fit([(1.0, float(s.num_bytes)) for s in samples], [s.seconds for s in samples])
    return TransferModel(a, 1 / seconds_per_byte if seconds_per_byte else math.inf)


def mean_relative_error(predict: Callable[[Sample], float], samples: Sequence[Sample]) -> float:
    """Mean of |predicted - measured| / measured. Raises FitError without samples."""
    if not samples:
        raise FitError("no samples")
    return math.fsum(abs(predict(s) - s.seconds) / s.seconds for s in samples) / len(samples)


def _fit(rows: Sequence[Sequence[float]], seconds: Sequence[float]) -> tuple[float, ...]:
    if any(not (math.isfinite(value) and value > 0) for value in seconds):
        raise FitError("every sample must have taken a positive, finite time")
    relative = [[value / s for value in row] for row, s in zip(rows, seconds, strict=True)]
    return non_negative_least_squares(relative, [1.0] * len(relative))
