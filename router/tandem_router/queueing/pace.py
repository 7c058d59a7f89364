"""How long a worker's prefill side takes for a prompt, learned from when prefills end."""

from dataclasses import dataclass

FORGET = 0.98
"""Weight that an observation keeps when the next one comes: about the last fifty count."""
GUESS = 1 / 32_768
"""Seconds a token, until something was seen. Too fast rather than too slow: it only lets more through."""


@dataclass(slots=True)
class Pace:
    """`a + b * tokens` seconds, by exponentially weighted least squares; neither is ever negative."""

    weight: float = 0.0
    tokens: float = 0.0
    squares: float = 0.0
    seconds: float = 0.0
    products: float = 0.0
    a: float = 0.0
    b: float = GUESS

    def learn(self, tokens: int, seconds: float) -> None:
        self.weight = self.weight * FORGET + 1
        self.tokens = self.tokens * FORGET + tokens
        self.squares = self.squares * FORGET + tokens * tokens
        self.seconds = self.seconds * FORGET + seconds
        self.products = self.products * FORGET + tokens * seconds
        spread = self.weight * self.squares - self.tokens * self.tokens
        slope = 0.0
        if spread > 1e-6 * self.weight * self.squares:
            slope = (self.weight * self.products - self.tokens * self.seconds) / spread
        through_zero = self.products / self.squares if self.squares else 0.0
        self.b = min(max(slope, 0.0), through_zero) if slope else through_zero
        self.a = max(0.0, (self.seconds - self.b * self.tokens) / self.weight)

    def predict(self, tokens: int) -> float:
        return self.a + self.b * tokens


@dataclass(slots=True)
class Lag:
    """Seconds between a start and its first token that are not the prompt's own: a mean and a deviation."""

    mean: float = 0.0
    deviation: float = 0.0

    def learn(self, seconds: float) -> None:
        error = seconds - self.mean
        self.mean += 0.1 * error
        self.deviation += 0.1 * (abs(error) - self.deviation)

    @property
    def cautious(self) -> float:
        return max(0.0, self.mean + self.deviation)


class Drain:
    """Seconds of work that leave the queue each second, measured while somebody waits."""

    HORIZON = 5.0

    def __init__(self) -> None:
        self._work = self._time = 0.0
        self._since: float | None = None

    def advance(self, now: float, *, contended: bool) -> None:
        """Time goes on to `now`; `contended` says whether somebody waits from now on."""
        if self._since is not None:
            keep = max(0.0, 1 - (now - self._since) / self.HORIZON)
            self._work, self._time = self._work * keep, self._time * keep + (now - self._since)
        self._since = now if contended else None

    def started(self, seconds: float) -> None:
        self._work += seconds

    def rate(self, expected: float) -> float:
        """`expected` counts as one second's observation."""
        return (self._work + expected) / (self._time + 1.0)
