"""How long prefill, decode and a KV hand-over take: three linear models with non-negative coefficients."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Chunk:
    """Prompt tokens of one sequence that a step computes, after `prefix_tokens` that the KV cache holds."""

    new_tokens: int
    prefix_tokens: int = 0

    def __post_init__(self) -> None:
        if self.new_tokens < 0 or self.prefix_tokens < 0:
            raise ValueError(f"token counts must not be negative: {self}")

    @property
    def attended_tokens(self) -> float:
        """n * (p + n/2): the (query, key) pairs that causal attention visits."""
        return self.new_tokens * (self.prefix_tokens + self.new_tokens / 2)


@dataclass(frozen=True, slots=True)
class PrefillModel:
    """`a + b * sum(n) + c * sum(n * (p + n/2))` seconds for chunks of n new tokens after p cached ones."""

    a: float
    b: float
    c: float

    def __post_init__(self) -> None:
        _require_non_negative(a=self.a, b=self.b, c=self.c)

    def seconds(self, chunks: Iterable[Chunk]) -> float:
        """Seconds of one step; nothing to compute takes no time."""
        batch = [chunk for chunk in chunks if chunk.new_tokens]
        if not batch:
            return 0.0
        new_tokens = sum(chunk.new_tokens for chunk in batch)
        return self.a + self.b * new_tokens + self.c * sum(chunk.attended_tokens for chunk in batch)


@dataclass(frozen=True, slots=True)
class DecodeModel:
    """`a + b * batch + c * kv_tokens` seconds for a step that gives each of `batch` sequences one token."""

    a: float
    b: float
    c: float

    def __post_init__(self) -> None:
        _require_non_negative(a=self.a, b=self.b, c=self.c)

    def seconds(self, batch: int, kv_tokens: int) -> float:
        """Seconds of one step; `kv_tokens` is the sum of all contexts. An empty batch takes no time."""
        if batch < 0 or kv_tokens < 0:
            raise ValueError(f"batch and kv_tokens must not be negative: {batch}, {kv_tokens}")
        return self.a + self.b * batch + self.c * kv_tokens if batch else 0.0


@dataclass(frozen=True, slots=True)
class TransferModel:
    """`a + bytes / bandwidth` seconds for one hand-over; bytes per second, `math.inf` if only `a` counts."""

    a: float
    bandwidth: float

    def __post_init__(self) -> None:
        _require_non_negative(a=self.a)
        if not self.bandwidth > 0:
            raise ValueError(f"bandwidth must be positive: {self.bandwidth}")

    def seconds(self, num_bytes: int) -> float:
        """Seconds to move `num_bytes`; nothing to move takes no time."""
        if num_bytes < 0:
            raise ValueError(f"num_bytes must not be negative: {num_bytes}")
        return self.a + num_bytes / self.bandwidth if num_bytes else 0.0


@dataclass(frozen=True, slots=True)
class LatencyModel:
    """The three models of one (model, GPU, tensor parallel size)."""

    prefill: PrefillModel
    decode: DecodeModel
    transfer: TransferModel

    def as_dict(self) -> dict[str, dict[str, float]]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, dict[str, float]]) -> Self:
        """The inverse of `as_dict`. Raises ValueError for missing, unknown or impossible coefficients."""
        try:
            return cls(
                PrefillModel(**data["prefill"]),
                DecodeModel(**data["decode"]),
                TransferModel(**data["transfer"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a latency model: {error}") from error


def _require_non_negative(**coefficients: float) -> None:
    for name, value in coefficients.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"coefficient {name} must be finite and not negative: {value}")
