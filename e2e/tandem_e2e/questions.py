"""Prompts for the recall model: lines `name = value`, then one `name?`."""

import string
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt and the value that it asks for."""

    prompt: str
    value: str


def questions(count: int, lines: tuple[int, int], seed: str) -> list[Question]:
    """`count` prompts, each with a number of lines in that range, the same ones for the same seed."""
    rng = Random(seed)
    return [_question(rng, rng.randint(*lines)) for _ in range(count)]


def _question(rng: Random, lines: int) -> Question:
    facts = {_word(rng, string.ascii_lowercase, 4, 9): "" for _ in range(lines)}
    for name in facts:
        facts[name] = _word(rng, string.ascii_lowercase + string.digits, 3, 8)
    asked = rng.choice(list(facts))
    stated = "\n".join(f"{name} = {value}" for name, value in facts.items())
    return Question(f"{stated}\n{asked}?", facts[asked])


def _word(rng: Random, characters: str, low: int, high: int) -> str:
    return "".join(rng.choices(characters, k=rng.randint(low, high)))
