"""One kind of worker: its true speed, its memory, and when it refuses."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from tandem_perf.latency import Chunk, LatencyModel


def steady(_now: float) -> float:
    return 1.0


@dataclass(frozen=True, slots=True)
class Machine:
    """`latency` is the true one; each step takes up to some `noise` more or less, times `drift` of the time.

    `step_tokens`: prompts are computed in chunks that leave a step no more tokens than this.
    `max_running`, `max_backlog_tokens`: beyond these a new request is refused.
    """

    latency: LatencyModel
    kv_tokens: int = 400_000
    kv_bytes_per_token: int = 131_072
    step_tokens: int = 4096
    max_running: int = 256
    max_backlog_tokens: float = math.inf
    noise: float = 0.05
    drift: Callable[[float], float] = steady

    def step_seconds(
        self, chunks: Sequence[Chunk], batch: int, kv_tokens: int, now: float, random: Random
    ) -> float:
        """One step over prompts' chunks and `batch` streams with `kv_tokens` together."""
        decode = self.latency.decode
        if chunks:
            seconds = self.latency.prefill.seconds(chunks) + decode.b * batch + decode.c * kv_tokens
        else:
            seconds = decode.seconds(batch, kv_tokens)
        return seconds * self._luck(now, random)

    def transfer_seconds(self, tokens: int, now: float, random: Random) -> float:
        return self.latency.transfer.seconds(tokens * self.kv_bytes_per_token) * self._luck(now, random)

    def _luck(self, now: float, random: Random) -> float:
        return max(0.5, random.gauss(1, self.noise)) * self.drift(now)
