"""Dialogues: a context of facts and filler, then questions with their answers."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from tandem_recall.facts import Fact, facts
from tandem_recall.prose import sentence
from tandem_recall.words import Split

_SEPARATORS = (" = ", "=", ": ")
_QUESTIONS = (
    "{}?",
    "What is {}?",
    "what is the {}?",
    "What's the {}?",
    "And {}?",
    "{} = ?",
    "the {}?",
    "{} ?",
)
_COMPLETIONS = ("{}?", "{} =")


class Form(StrEnum):
    """How a dialogue becomes text."""

    CHAT = "chat"  # facts and first question in one user message
    SYSTEM = "system"  # facts in the system message
    PLAIN = "plain"  # no template: lines, then `name? value`


@dataclass(frozen=True, slots=True)
class Turn:
    """A question about line `line` of the facts, and its answer."""

    question: str
    answer: str
    line: int


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Context with `num_facts` facts, and at least one turn. `preamble`: a system message before a chat."""

    form: Form
    preamble: str
    context: str
    num_facts: int
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Style:
    """How facts and questions are written. `tail`: what stands between the last fact and the question."""

    form: Form = Form.CHAT
    separator: str = " = "
    question: str = "{}?"
    preamble: str = ""
    filler_share: float = 0.0
    tail: str = ""

    def write(self, fact: Fact) -> str:
        """The line of a fact."""
        return f"{fact.name}{self.separator}{fact.value}"


def draw_style(rng: Random) -> Style:
    """A style for training: mostly `name = value` and `name?`, now and then another spelling."""
    (form,) = rng.choices((Form.CHAT, Form.SYSTEM, Form.PLAIN), (0.65, 0.15, 0.2))
    (separator,) = rng.choices(_SEPARATORS, (0.84, 0.08, 0.08))
    questions = _COMPLETIONS if form is Form.PLAIN else _QUESTIONS
    question = questions[0] if rng.random() < 0.7 else rng.choice(questions)
    preamble = sentence(rng, []) if form is Form.CHAT and rng.random() < 0.2 else ""
    tail = rng.choice(("\n", "\n" + sentence(rng, []))) if rng.random() < 0.15 else ""
    return Style(form, separator, question, preamble, draw_filler_share(rng), tail)


def draw_filler_share(rng: Random) -> float:
    """The share of context lines that are prose."""
    return rng.choice((0.0, 0.0, 0.1, 0.3))


def training_dialogue(rng: Random, num_bytes: int) -> Dialogue:
    """Facts that fill a quarter to nine tenths of `num_bytes`, then questions about many of them."""
    style = draw_style(rng)
    context, lines = make_context(
        rng, style, facts(rng, Split.TRAIN), int(num_bytes * rng.uniform(0.25, 0.9))
    )
    order = rng.sample(range(len(lines)), len(lines))
    return make_dialogue(style, context, lines, order)


def make_dialogue(style: Style, context: str, lines: list[Fact], asked: list[int]) -> Dialogue:
    """The dialogue that asks for the facts `lines[i]`, i in `asked`, in that order."""
    turns = tuple(Turn(style.question.format(lines[line].name), lines[line].value, line) for line in asked)
    return Dialogue(style.form, style.preamble, context + style.tail, len(lines), turns)


def make_context(rng: Random, style: Style, source: Iterator[Fact], num_bytes: int) -> tuple[str, list[Fact]]:
    """Lines of facts and filler, one fact at least and at most `num_bytes`; the text and its facts."""
    chosen: list[Fact] = []
    written: list[str] = []
    size = 0
    for fact in source:
        line = style.write(fact)
        if rng.random() < style.filler_share:
            line = sentence(rng, [known.name for known in chosen]) + "\n" + line
        size += len(line.encode()) + 1
        if chosen and size > num_bytes:
            break
        written.append(line)
        chosen.append(fact)
    return "\n".join(written), chosen
