"""What the queue expects: how long prompts and answers take, and how fast the queue drains."""

from math import inf

from tandem_router.queueing.lengths import Lengths
from tandem_router.queueing.pace import Drain, Lag
from tandem_router.queueing.tiers import Tier
from tandem_router.types import RequestInfo


class Estimates:
    """One model's. `margin`: the share of answers that the expected length has to cover."""

    def __init__(self, margin: float) -> None:
        self._margin = margin
        self._lag = Lag()
        self._step = Lag()
        self.lengths = Lengths()
        self.drain = Drain()
        self.servers = 1

    def output_tokens(self, info: RequestInfo) -> int:
        return self.lengths.expect(info.service_class, info.prompt_tokens, info.max_tokens, self._margin)

    def latest(self, info: RequestInfo, tier: Tier, now: float, seconds: float) -> float:
        """The last moment to start so that every objective of the class is met; `seconds` is the prompt's."""
        latest, first = inf, seconds + self._lag.cautious
        if tier.ttft is not None:
            latest = now + tier.ttft - first
        if tier.deadline is not None:
            answer = first + self._step.mean * self.output_tokens(info)
            latest = min(latest, now + tier.deadline - answer)
        return latest

    def wait(self, seconds: float) -> float:
        """Seconds until so many seconds of work have left the queue."""
        return seconds / self.rate

    @property
    def rate(self) -> float:
        """Seconds of prefill work that start each second."""
        return self.drain.rate(max(1, self.servers))

    def first_token(self, seconds: float) -> None:
        """A first token came so long after its start, the prompt's own time not counted."""
        self._lag.learn(seconds)

    def answered(self, info: RequestInfo, output_tokens: int, decode_seconds: float | None) -> None:
        """An answer is complete; `decode_seconds` from its first token to its last, if that was seen."""
        self.lengths.learn(info.service_class, info.prompt_tokens, output_tokens)
        if decode_seconds is not None and output_tokens > 1:
            self._step.learn(decode_seconds / (output_tokens - 1))
