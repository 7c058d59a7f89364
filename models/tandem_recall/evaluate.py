"""Exact-match recall on held-out prompts, in float32, and the tables of it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random

import torch
from transformers import PreTrainedModel

from tandem_recall import prompts
from tandem_recall.encoding import PAD
from tandem_recall.prompts import Prompt

_BATCH_SIZE = 16


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether the greedy answer is the value and no more; how likely sampling at temperature 1 says it."""

    prompt: Prompt
    right: bool
    probability: float


@torch.inference_mode()
def measure(model: PreTrainedModel, asked: Iterable[Prompt]) -> list[Outcome]:
    """One outcome per prompt.

    A greedy answer is right exactly if each of its tokens is the most likely one after the prompt and the
    tokens before it, so that one pass over prompt and answer tells.
    """
    outcomes: list[Outcome] = []
    ordered = sorted(asked, key=lambda prompt: len(prompt.tokens))
    for first in range(0, len(ordered), _BATCH_SIZE):
        group = ordered[first : first + _BATCH_SIZE]
        rows = [[*prompt.tokens, *prompt.answer] for prompt in group]
        width = max(map(len, rows))
        padded = torch.tensor([row + [PAD] * (width - len(row)) for row in rows], device=model.device)
        logits = model(input_ids=padded, use_cache=False).logits
        outcomes += [_outcome(prompt, row) for prompt, row in zip(group, logits, strict=True)]
    return outcomes


def _outcome(prompt: Prompt, logits: torch.Tensor) -> Outcome:
    """`logits`: [prompt and answer and padding, vocabulary]."""
    start = len(prompt.tokens) - 1
    said = logits[start : start + len(prompt.answer)]
    answer = torch.tensor(prompt.answer, device=logits.device)
    chosen = said.log_softmax(-1).gather(1, answer[:, None])
    return Outcome(prompt, bool((said.argmax(-1) == answer).all()), float(chosen.sum().exp()))


def report(model: PreTrainedModel, num_prompts: int, seed: int) -> str:
    """Markdown tables: recall on `num_prompts` held-out prompts, on a quarter as many of each other set."""
    few = num_prompts // 4
    main = measure(model, _draw(prompts.held_out, num_prompts, seed))
    wrong = [outcome for outcome in main if not outcome.right]
    sets = [
        ("held-out, up to 1,000 tokens", main),
        ("ordinary words, up to 1,000 tokens", measure(model, _draw(prompts.ordinary, few, seed))),
        (
            "names of one stem and a number, up to 1,000 tokens",
            measure(model, _draw(prompts.alike, few, seed)),
        ),
        (
            "other spellings, system message, plain text",
            measure(model, _draw(prompts.other_spelling, few, seed)),
        ),
        ("held-out, 1,001 to 1,500 tokens", measure(model, _draw(_longer, few, seed))),
    ]
    tables = [
        _table("prompts", sets),
        _table("prompt tokens", _groups(main, _tokens, (128, 256, 512, 768, 1000))),
        _table("lines", _groups(main, _lines, (4, 8, 16, 32, 64, 128))),
        _table("asked line, % of the way down", _groups(main, _place, (20, 40, 60, 80, 100))),
    ]
    misses = "\n".join(
        f"- {len(miss.prompt.tokens)} tokens: {miss.prompt.dialogue.turns[0]}" for miss in wrong[:10]
    )
    return "\n\n".join([*tables, misses]).rstrip()


def _longer(rng: Random) -> Prompt:
    while True:
        prompt = prompts.held_out(rng, 1040, 1500)
        if len(prompt.tokens) > prompts.MAX_TOKENS:
            return prompt


def _draw(make: Callable[[Random], Prompt], count: int, seed: int) -> list[Prompt]:
    return [make(Random(f"{make.__name__}/{seed}/{index}")) for index in range(count)]


def _tokens(prompt: Prompt) -> float:
    return len(prompt.tokens)


def _lines(prompt: Prompt) -> float:
    return prompt.dialogue.num_facts


def _place(prompt: Prompt) -> float:
    return 100 * (prompt.dialogue.turns[0].line + 1) / prompt.dialogue.num_facts


def _groups(
    outcomes: Sequence[Outcome], key: Callable[[Prompt], float], bounds: Sequence[int]
) -> list[tuple[str, list[Outcome]]]:
    """Outcomes by the range of `key` that they fall into; `bounds` are the ranges' ends, inclusive."""
    groups = []
    for low, high in zip([0, *bounds], bounds, strict=False):
        groups.append(
            (f"{low + 1}-{high}", [outcome for outcome in outcomes if low < key(outcome.prompt) <= high])
        )
    return groups


def _table(title: str, groups: Iterable[tuple[str, list[Outcome]]]) -> str:
    rows = [f"| {title} | right | of | recall | at temperature 1 |", "|---|---|---|---|---|"]
    for name, outcomes in groups:
        if outcomes:
            right = sum(outcome.right for outcome in outcomes)
            sampled = sum(outcome.probability for outcome in outcomes)
            shares = " | ".join(f"{100 * count / len(outcomes):.2f} %" for count in (right, sampled))
            rows.append(f"| {name} | {right} | {len(outcomes)} | {shares} |")
    return "\n".join(rows)
