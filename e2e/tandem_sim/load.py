"""Arrivals over time: a rate curve, and Poisson arrivals that follow it."""

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Point:
    """From `at` seconds on, requests arrive at `rate` per second."""

    at: float
    rate: float


@dataclass(frozen=True, slots=True)
class Job:
    """One request of the load: when it arrives, and its tokens."""

    at: float
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Load:
    """A step curve of rates, and mean lengths; lengths are log-normal with deviation `spread`."""

    curve: Sequence[Point]
    prompt_tokens: int = 1000
    output_tokens: int = 100
    spread: float = 0.4

    def rate(self, at: float) -> float:
        """Requests per second at a moment; 0 before the first point."""
        index = bisect_right([point.at for point in self.curve], at)
        return self.curve[index - 1].rate if index else 0.0

    def jobs(self, until: float, random: Random) -> Iterator[Job]:
        """Poisson arrivals up to `until`, thinned from the highest rate (Lewis and Shedler 1979)."""
        highest = max(point.rate for point in self.curve)
        at = 0.0
        while highest > 0 and (at := at + random.expovariate(highest)) <= until:
            if random.random() * highest < self.rate(at):
                prompt = self._length(self.prompt_tokens, random)
                yield Job(at, prompt, self._length(self.output_tokens, random))

    def _length(self, mean: int, random: Random) -> int:
        factor = random.lognormvariate(-(self.spread**2) / 2, self.spread)
        return max(1, math.ceil(mean * factor))
