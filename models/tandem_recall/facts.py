"""Lists of `name = value` facts, with the near misses that make recall hard."""

import string
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from tandem_recall import ordinary
from tandem_recall.words import NUMBERS, VALUES, Split, belongs, characters, draw, draw_name, draw_value, word

_TRIES = 8
_ALIKE_SHARE = 0.15


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of a prompt."""

    name: str
    value: str


def facts(rng: Random, split: Split) -> Iterator[Fact]:
    """Facts without end, names distinct: of all kinds, or now and then all alike."""
    return alike_facts(rng, split) if rng.random() < _ALIKE_SHARE else varied_facts(rng, split)


def alike_facts(rng: Random, split: Split) -> Iterator[Fact]:
    """Names of one stem and a number, as `k83` and `k8310`; most values are numbers too."""
    stem = word(rng) if rng.random() < 0.5 else characters(rng, string.ascii_lowercase, 1, 3)
    stem += rng.choice(("", "", "_", "-"))
    num_digits, numeric_share = rng.randint(4, 6), rng.choice((0.5, 1.0))
    names: set[str] = set()
    while True:
        name = f"{stem}{rng.randrange(10 ** rng.randint(1, num_digits))}"
        if name not in names and belongs(name, split):
            names.add(name)
            makers = NUMBERS if rng.random() < numeric_share else VALUES
            yield Fact(name, draw(rng, makers, split))


def varied_facts(rng: Random, split: Split) -> Iterator[Fact]:
    """Names and values of all kinds. Some names differ from an earlier one by a character or an affix."""
    made: dict[str, Fact] = {}
    closeness = rng.choice((0.0, 0.1, 0.4))
    while True:
        fact = _next_fact(rng, split, list(made.values()), closeness)
        if fact.name not in made:
            made[fact.name] = fact
            yield fact


def ordinary_facts(rng: Random) -> Iterator[Fact]:
    """Facts that people would type, names distinct; ends with the list of names."""
    for name in rng.sample(ordinary.NAMES, len(ordinary.NAMES)):
        yield Fact(name, rng.choice(ordinary.VALUES))


def _next_fact(rng: Random, split: Split, made: list[Fact], closeness: float) -> Fact:
    if not made:
        return Fact(draw_name(rng, split), draw_value(rng, split))
    name = _near(rng, rng.choice(made).name, split) if rng.random() < closeness else None
    return Fact(name or draw_name(rng, split), _value(rng, split, made, closeness))


def _value(rng: Random, split: Split, made: list[Fact], closeness: float) -> str:
    choice = rng.random()
    if choice < 0.06:
        return rng.choice(made).value
    if choice < 0.09:
        return rng.choice(made).name
    near = _near(rng, rng.choice(made).value, split) if choice < 0.09 + closeness / 3 else None
    return near or draw_value(rng, split)


def _near(rng: Random, text: str, split: Split) -> str | None:
    """A text of `split` one small change away, or None if a few tries find none."""
    for _ in range(_TRIES):
        changed = _change(rng, text)
        if changed and changed == changed.strip() and belongs(changed, split):
            return changed
    return None


def _change(rng: Random, text: str) -> str:
    match rng.randrange(5):
        case 0:
            return text + rng.choice(string.ascii_lowercase + string.digits)
        case 1:
            return f"{text}_{word(rng)}"
        case 2:
            return f"{word(rng)}_{text}"
        case 3:
            return text[: -rng.randint(1, 2)] + characters(rng, string.ascii_lowercase, 1, 2)
        case _:
            spot = rng.randrange(len(text))
            return text[:spot] + rng.choice(string.ascii_lowercase + string.digits) + text[spot + 1 :]
