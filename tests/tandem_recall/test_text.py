"""The text that the model learns from and is asked with."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from tandem_recall import ordinary, prompts
from tandem_recall.batches import Batches
from tandem_recall.checkpoint import make_tokenizer
from tandem_recall.dialogue import Dialogue, Form, training_dialogue
from tandem_recall.encoding import MESSAGE_END, PAD, encode, encode_answer, encode_prompt, first_messages
from tandem_recall.facts import facts
from tandem_recall.prompts import Prompt
from tandem_recall.settings import Settings, Stage
from tandem_recall.words import Split

RECALL = Path(__file__).parents[2] / "models" / "recall"
SMALL = Settings(
    num_steps=8, tokens_per_step=1024, stages=(Stage(0.5, (128,), (1.0,)), Stage(1.0, (256,), (1.0,)))
)
KINDS = [prompts.held_out, prompts.ordinary, prompts.other_spelling]


def _texts(split: Split) -> set[str]:
    made = [fact for seed in range(40) for fact in islice(facts(Random(seed), split), 40)]
    return {text for fact in made for text in (fact.name, fact.value)}


def test_the_splits_and_the_ordinary_words_share_nothing() -> None:
    train, held_out = _texts(Split.TRAIN), _texts(Split.HELD_OUT)
    assert len(train) > 2000
    assert train.isdisjoint(held_out)
    assert ordinary.ALL.isdisjoint(train | held_out)


@pytest.mark.parametrize("split", Split)
def test_facts_have_distinct_names_and_fit_a_line(split: Split) -> None:
    for seed in range(20):
        made = list(islice(facts(Random(seed), split), 60))
        assert len({fact.name for fact in made}) == 60
        for fact in made:
            assert not set(fact.name) & set("=:?\n")
            assert fact.value == fact.value.strip() != ""
            assert "\n" not in fact.value


def test_some_names_are_near_misses_of_others() -> None:
    names = [fact.name for seed in range(20) for fact in islice(facts(Random(seed), Split.TRAIN), 30)]
    assert sum(a != b and a.startswith(b) for a in names for b in names if len(b) > 3) > 20


@pytest.mark.parametrize("make", KINDS)
def test_prompts_are_short_enough_and_hold_their_answer(make: Callable[[Random], Prompt]) -> None:
    lengths = []
    for seed in range(60):
        prompt = make(Random(seed))
        lengths.append(len(prompt.tokens))
        (turn,) = prompt.dialogue.turns
        assert prompt.answer[-1] == MESSAGE_END
        assert bytes(prompt.answer[:-1]).decode().strip() == turn.answer
        assert turn.answer in prompt.dialogue.context
        assert prompt == make(Random(seed))
    assert max(lengths) <= prompts.MAX_TOKENS
    assert min(lengths) < 200
    assert max(lengths) > 900


@pytest.fixture(scope="module", params=["made", "shipped"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return make_tokenizer() if request.param == "made" else AutoTokenizer.from_pretrained(RECALL)


def test_a_request_becomes_the_tokens_of_its_chat_template(tokenizer: Any) -> None:
    for seed in range(60):
        dialogue = training_dialogue(Random(seed), 600)
        (turn, *_) = dialogue.turns
        text = f"{dialogue.context}\n{turn.question}"
        if dialogue.form is not Form.PLAIN:
            messages = first_messages(dialogue)
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert tokenizer.encode(text) == encode_prompt(dialogue)
        assert tokenizer.decode(encode_answer(dialogue), skip_special_tokens=True).strip() == turn.answer


def test_a_dialogue_becomes_the_tokens_of_its_chat_template(tokenizer: Any) -> None:
    for dialogue in (training_dialogue(Random(seed), 400) for seed in range(40)):
        if dialogue.form is Form.PLAIN:
            continue
        tokens, spoken = encode(dialogue, 10_000)
        text = tokenizer.apply_chat_template(_messages(dialogue), tokenize=False)
        assert tokens == tokenizer.encode(text.removesuffix("\n"))
        said = [token for token, is_spoken in zip(tokens, spoken, strict=True) if is_spoken]
        assert said == [token for turn in dialogue.turns for token in [*turn.answer.encode(), MESSAGE_END]]


def _messages(dialogue: Dialogue) -> list[dict[str, str]]:
    messages = first_messages(dialogue)
    for index, turn in enumerate(dialogue.turns):
        if index:
            messages.append({"role": "user", "content": turn.question})
        messages.append({"role": "assistant", "content": turn.answer})
    return messages


def test_encoding_keeps_whole_turns() -> None:
    dialogue = training_dialogue(Random(1), 400)
    whole, _ = encode(dialogue, 10_000)
    for limit in range(0, len(whole) + 1, 7):
        tokens, spoken = encode(dialogue, limit)
        assert len(tokens) == len(spoken) <= limit
        assert tokens == whole[: len(tokens)]
        assert not tokens or tokens[-1] == MESSAGE_END


def test_a_batch_depends_on_nothing_but_its_step() -> None:
    batches = Batches(SMALL)
    first, again = batches[3], Batches(SMALL)[3]
    assert all(torch.equal(part, other) for part, other in zip(first, again, strict=True))
    assert not torch.equal(batches[2][0], first[0])
    tokens, spoken = first
    assert tokens.shape == spoken.shape == (8, 128)
    assert batches[4][0].shape == (4, 256)
    assert not (spoken & (tokens == PAD)).any()
    assert ((tokens == MESSAGE_END) & spoken).any(dim=1).all()


def test_the_learning_rate_rises_then_falls() -> None:
    settings = Settings(num_steps=1000, num_warmup_steps=100)
    rates = [settings.rate(step) for step in range(1000)]
    assert rates[99] == max(rates) == settings.peak_rate
    assert rates[:100] == sorted(rates[:100])
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert rates[-1] < 0.03 * settings.peak_rate
