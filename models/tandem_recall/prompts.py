"""Held-out prompts: one question each, made of names and values that training never used as facts."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from tandem_recall.dialogue import Dialogue, Style, draw_filler_share, draw_style, make_context, make_dialogue
from tandem_recall.encoding import encode_answer, encode_prompt
from tandem_recall.facts import Fact, alike_facts, facts, ordinary_facts
from tandem_recall.words import Split

Source = Callable[[Random], Iterator[Fact]]
MAX_TOKENS = 1000


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt's tokens and the answer's, end token included. `dialogue` has one turn."""

    dialogue: Dialogue
    tokens: tuple[int, ...]
    answer: tuple[int, ...]


def held_out(rng: Random, low: int = 40, high: int = MAX_TOKENS) -> Prompt:
    """`name = value` lines with or without filler and `name?`, about `low` and at most `high` tokens long."""
    return _prompt(rng, Style(filler_share=draw_filler_share(rng)), rng.randint(low, high), high)


def ordinary(rng: Random) -> Prompt:
    """The same of names and values that people type."""
    return _chat(rng, ordinary_facts)


def alike(rng: Random) -> Prompt:
    """The same of names that are one stem and a number."""
    return _chat(rng, lambda rng: alike_facts(rng, Split.HELD_OUT))


def other_spelling(rng: Random) -> Prompt:
    """The same as `name: value`, `What is name?`, with a system message, or as text without the template."""
    return _prompt(rng, draw_style(rng), rng.randint(60, MAX_TOKENS), MAX_TOKENS)


def _chat(rng: Random, source: Source) -> Prompt:
    style = Style(filler_share=draw_filler_share(rng))
    return _prompt(rng, style, rng.randint(40, MAX_TOKENS), MAX_TOKENS, source)


def _held_out_facts(rng: Random) -> Iterator[Fact]:
    return facts(rng, Split.HELD_OUT)


def _prompt(rng: Random, style: Style, size: int, limit: int, source: Source = _held_out_facts) -> Prompt:
    """A prompt of about `size` tokens; draws again while it is longer than `limit`."""
    while True:
        context, lines = make_context(rng, style, source(rng), size - 40)
        dialogue = make_dialogue(style, context, lines, [rng.randrange(len(lines))])
        tokens = encode_prompt(dialogue)
        if len(tokens) <= limit:
            return Prompt(dialogue, tuple(tokens), tuple(encode_answer(dialogue)))
