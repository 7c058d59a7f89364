"""What clients ask for: calls that come by the clock, and sessions whose next call waits for the last."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

BLOCK_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `at`: seconds from the start of the load, in a session from the end of the call before.

    `blocks` name the prompt's leading full blocks of `block_tokens` tokens: equal names are equal text.
    """

    at: float
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()
    block_tokens: int = BLOCK_TOKENS
    session: str = ""
    service_class: str = "default"
    tenant: str = ""
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """Calls by the clock, and sessions: each a sequence of calls, the first of them by the clock."""

    calls: tuple[Call, ...] = ()
    sessions: tuple[tuple[Call, ...], ...] = ()

    def faster(self, factor: float) -> "Load":
        """`factor` times the arrival rate. What a session waits between calls stays as it is."""
        return Load(
            tuple(replace(call, at=call.at / factor) for call in self.calls),
            tuple((replace(s[0], at=s[0].at / factor), *s[1:]) for s in self.sessions),
        )

    def until(self, seconds: float) -> "Load":
        """What begins in the first `seconds`."""
        return Load(
            tuple(call for call in self.calls if call.at <= seconds),
            tuple(session for session in self.sessions if session[0].at <= seconds),
        )

    def __add__(self, other: "Load") -> "Load":
        calls = sorted((*self.calls, *other.calls), key=lambda call: call.at)
        return Load(tuple(calls), self.sessions + other.sessions)


@dataclass(frozen=True, slots=True)
class Shape:
    """Lengths of synthetic calls: log-normal around their means. Of the prompt, `shared` tokens are one of
    `prefixes` equal beginnings."""

    prompt_tokens: int = 1000
    output_tokens: int = 150
    spread: float = 0.6
    shared: int = 0
    prefixes: int = 1
    service_class: str = "default"
    max_tokens: int | None = None


def poisson(rate: float, seconds: float, shape: Shape, random: Random) -> Load:
    """Independent arrivals at `rate` per second."""
    return _arrivals(seconds, shape, random, lambda: random.expovariate(rate))


def bursty(rate: float, seconds: float, shape: Shape, random: Random, cv: float = 3.0) -> Load:
    """Gaps from a Gamma distribution with coefficient of variation `cv` (BurstGPT, arXiv 2401.17644)."""
    k = 1 / cv**2
    return _arrivals(seconds, shape, random, lambda: random.gammavariate(k, 1 / (rate * k)))


def steps(levels: Sequence[tuple[float, float]], shape: Shape, random: Random) -> Load:
    """Poisson arrivals at a rate per second for some seconds, then at the next level's."""
    load, start = Load(), 0.0
    for rate, seconds in levels:
        part = poisson(rate, seconds, shape, random)
        load += Load(tuple(replace(call, at=call.at + start) for call in part.calls))
        start += seconds
    return load


def _arrivals(seconds: float, shape: Shape, random: Random, gap: Callable[[], float]) -> Load:
    calls: list[Call] = []
    at = gap()
    while at <= seconds:
        calls.append(_call(at, len(calls), shape, random))
        at += gap()
    return Load(tuple(calls))


def _call(at: float, number: int, shape: Shape, random: Random) -> Call:
    prompt = shape.shared + _length(shape.prompt_tokens - shape.shared, shape.spread, random)
    output = _length(shape.output_tokens, shape.spread, random)
    if shape.max_tokens is not None:
        output = min(output, shape.max_tokens)
    prefix = random.randrange(shape.prefixes)
    common = shape.shared // BLOCK_TOKENS
    own = prompt // BLOCK_TOKENS - common
    first = -(prefix + 1) * 1_000_000
    blocks = (*range(first, first + common), *range(number * 1_000, number * 1_000 + own))
    return Call(
        at,
        prompt,
        output,
        blocks,
        service_class=shape.service_class,
        max_tokens=shape.max_tokens,
    )


def _length(mean: int, spread: float, random: Random) -> int:
    return max(1, round(mean * random.lognormvariate(-(spread**2) / 2, spread)))
