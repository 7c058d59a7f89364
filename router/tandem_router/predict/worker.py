"""One worker as the predictor sees it: its kind's model, its own speed, and what runs there."""

import math

from tandem_router.predict.beside import Signs, Usual, signs
from tandem_router.predict.models import Shared
from tandem_router.predict.prompts import Prompts, Sample, Work
from tandem_router.predict.streams import Decoded, Stream, Streams

_WEIGHT = 0.05
_SLOWEST = 3.0
_HORIZON = 10.0
"""Seconds over which the share of time for prompts, and the usual batch, are averaged."""


class Worker:
    """`prompt_factor` and `step_factor`: its times over those of its kind's model."""

    __slots__ = (
        "_busy",
        "_busy_at",
        "began",
        "prompt_factor",
        "prompts",
        "shared",
        "step_factor",
        "streams",
        "usual",
    )

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.prompts, self.streams = Prompts(), Streams()
        self.prompt_factor = self.step_factor = 1.0
        self.usual = Usual()
        self.began = False
        self._busy = self._busy_at = 0.0

    def prefill_seconds(self, work: Work) -> float:
        model = self.shared.latency.model.prefill
        seconds = model.a * work.steps + model.b * work.new_tokens + model.c * work.attended_tokens
        return seconds * self.prompt_factor

    def step_seconds(self, batch: float, kv_tokens: float) -> float:
        model = self.shared.latency.model.decode
        return (model.a + model.b * batch + model.c * kv_tokens) * self.step_factor

    def step_now(self, now: float) -> float:
        """A decode step as the batch is, with one more sequence."""
        return self.step_seconds(self.streams.batch + 1, self.streams.kv_tokens(now))

    def signs(self, now: float) -> Signs:
        """What tells of the batch that the next stream will be in."""
        shared = self.shared
        model = shared.latency.model.decode
        return signs(model, self.streams, shared.streams, shared.streamers, self.usual, now)

    def tpot(self, kv_tokens: float, signs: Signs, now: float) -> float:
        """Of another stream with `kv_tokens`; what streams lose to prompts on this worker is in it."""
        others = self.shared.outlook.seconds(signs)
        step = self.step_seconds(1, kv_tokens) + others * self.step_factor
        return step / (1 - min(0.9, self.busy(now)))

    def expect(self, prompt_tokens: int, sign: int = 1) -> None:
        """A stream will begin here once its prompt is computed; `sign` -1: it has begun, or it will not."""
        for streams in (self.streams, self.shared.streams):
            streams.coming += sign
            streams.coming_tokens += sign * prompt_tokens

    def begin(self, prompt_tokens: int, now: float) -> Stream:
        if not self.began:
            self.began = True
            self.shared.streamers += 1
        self.shared.streams.begin(prompt_tokens, now)
        return self.streams.begin(prompt_tokens, now)

    def forget(self) -> None:
        """The worker is gone."""
        self.shared.streamers -= self.began

    def end(self, stream: Stream, now: float) -> Decoded | None:
        self.shared.streams.end(stream, now)
        return self.streams.end(stream, now)

    def busy(self, now: float) -> float:
        """The share of the last seconds that went to prompts of requests that are decoded here, too."""
        if not self._busy:
            return 0.0
        return self._busy * math.exp((self._busy_at - now) / _HORIZON) / _HORIZON

    def stalled(self, seconds: float, now: float) -> None:
        """A prompt was computed between the steps of this worker's streams."""
        self._busy = self.busy(now) * _HORIZON + seconds
        self._busy_at = now
        self.streams.stalled += seconds

    def held_up(self) -> float:
        """How many streams a prompt here would hold up: as many as now, or as usual."""
        return max(float(self.streams.batch), self.usual.streams)

    def learn_prefill(self, sample: Sample, now: float) -> None:
        if sample.seconds <= 0 or not self.shared.due("prefill", now):
            return
        self.prompt_factor = _nearer(self.prompt_factor, sample.seconds, self.prefill_seconds(sample.work))
        self.shared.latency.prefilled(*sample.work, sample.seconds)

    def learn_step(self, seen: Decoded, seconds: float, now: float) -> bool:
        """Streams had `seconds` a token while the batch was as `seen`. Whether it is one to learn from."""
        self.streams.pace(seconds)
        self.shared.streams.pace(seconds)
        if seconds <= 0 or not self.shared.due("decode", now):
            return False
        expected = self.step_seconds(seen.batch, seen.kv_tokens)
        self.step_factor = _nearer(self.step_factor, seconds, expected)
        self.shared.latency.decoded(seen.batch, seen.kv_tokens, seconds)
        return True


def _nearer(factor: float, measured: float, expected: float) -> float:
    """A step towards what was measured, smaller for what is far off."""
    error = max(-1.0, min(1.0, (measured - expected) / expected))
    return min(_SLOWEST, max(1 / _SLOWEST, factor * (1 + _WEIGHT * error)))
