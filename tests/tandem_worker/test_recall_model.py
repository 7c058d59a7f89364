"""The demo model on the native engine: right answers, also after a hand-over; wrong ones from damaged KV.

Cached keys carry their positions, so the order of a prompt's own pages means nothing to attention: a swapped
page is one that holds another prompt's KV.
"""

from dataclasses import replace
from pathlib import Path
from random import Random
from string import ascii_lowercase

import pytest

from tandem_recall import prompts
from tandem_recall.dialogue import Style, make_dialogue
from tandem_recall.encoding import encode_answer, encode_prompt, first_messages
from tandem_recall.facts import Fact
from tandem_recall.prompts import Prompt
from tandem_recall.words import characters
from tandem_worker.config import EngineConfig
from tandem_worker.engine import Engine
from tandem_worker.loader import load_engine
from tandem_worker.request import Request, SamplingParams, SeedToken, StepOutput
from tandem_worker.tokenizer import load_tokenizer

RECALL = Path(__file__).parents[2] / "models" / "recall"
BLOCK = 16
LINE = len("name = string\n")
NUM_LINES = 10
CANONICAL = Style()
GREEDY = SamplingParams(max_tokens=48, temperature=0.0)
ONE_TOKEN = replace(GREEDY, max_tokens=1)


def _engine() -> Engine:
    config = EngineConfig(RECALL, dtype="float32", device="cpu", block_size=BLOCK, num_blocks=600)
    return load_engine(config)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return _engine()


@pytest.fixture(scope="module")
def decoder() -> Engine:
    return _engine()


def _finish(engine: Engine, outputs: list[StepOutput]) -> dict[str, tuple[int, ...]]:
    """Runs the engine until it is idle; the tokens of `outputs` and of the steps, by request."""
    while engine.has_work():
        outputs += engine.step().outputs
    engine.check_integrity()
    said: dict[str, tuple[int, ...]] = {}
    for output in outputs:
        said[output.request_id] = (*said.get(output.request_id, ()), output.token_id)
    return said


def _at_block_borders() -> list[Prompt]:
    """Prompts of up to 1,000 tokens that end one token before, at, and one token after a block's end."""
    drawn = [prompts.held_out(Random(f"borders/{seed}")) for seed in range(400)]
    ends = {rest: [p for p in drawn if len(p.tokens) % BLOCK == rest] for rest in (BLOCK - 1, 0, 1)}
    return [prompt for found in ends.values() for prompt in found[:3]]


def test_a_batch_of_held_out_prompts_is_answered_right(engine: Engine) -> None:
    asked = _at_block_borders()
    assert len(asked) == 9
    assert max(len(prompt.tokens) for prompt in asked) > 800
    for number, prompt in enumerate(asked):
        engine.add(Request(str(number), prompt.tokens, GREEDY))
    assert _finish(engine, []) == {str(number): prompt.answer for number, prompt in enumerate(asked)}


def _prefill(engine: Engine, prompt: Prompt) -> tuple[SeedToken, list[bytes]]:
    """The first token of the answer, and the prompt's pages."""
    engine.add(Request("asked", prompt.tokens, ONE_TOKEN, hold_kv=True))
    (token,) = _finish(engine, [])["asked"]
    pages = [engine.read_blocks([block_id]) for block_id in engine.held("asked").block_ids]
    engine.release_held("asked")
    return SeedToken(token), pages


def _decode(engine: Engine, prompt: Prompt, seed: SeedToken, pages: list[bytes]) -> tuple[int, ...]:
    """The answer of an engine that gets the prompt's KV as `pages`."""
    plan = engine.plan_import(Request("asked", prompt.tokens, GREEDY))
    assert plan is not None
    for block_id, page in zip(plan.block_ids, pages[plan.first_block :], strict=True):
        engine.write_blocks([block_id], page)
    return _finish(engine, list(engine.commit_import("asked", seed).outputs))["asked"]


def test_the_worker_sees_a_chat_as_training_did() -> None:
    tokenizer = load_tokenizer(RECALL)
    assert tokenizer.chat_template is not None
    for seed in range(20):
        prompt = prompts.held_out(Random(f"chat/{seed}"))
        text = tokenizer.chat_template.render(first_messages(prompt.dialogue))
        assert tuple(tokenizer.encode(text, add_special_tokens=False)) == prompt.tokens
        assert tokenizer.decode(prompt.answer) == prompt.dialogue.turns[0].answer


def test_answers_stay_right_after_a_hand_over(engine: Engine, decoder: Engine) -> None:
    for prompt in _at_block_borders()[::3]:
        assert _decode(decoder, prompt, *_prefill(engine, prompt)) == prompt.answer


def _question(seed: str, page: int) -> Prompt:
    """A prompt that asks for a value in that page. Lines are shorter than a page, so each has one."""
    rng = Random(seed)
    letters = [characters(rng, ascii_lowercase, 10, 10) for _ in range(NUM_LINES)]
    lines = [Fact(text[:4], text[4:]) for text in letters]
    context = "\n".join(CANONICAL.write(fact) for fact in lines)
    first_line = len("\0user\n")  # the token that starts a message, and its role
    starts = [first_line + context.index(CANONICAL.write(fact)) + len("name = ") for fact in lines]
    middle = page * BLOCK + BLOCK // 2
    asked = min(range(NUM_LINES), key=lambda line: abs(starts[line] + 3 - middle))
    dialogue = make_dialogue(CANONICAL, context, lines, [asked])
    return Prompt(dialogue, tuple(encode_prompt(dialogue)), tuple(encode_answer(dialogue)))


@pytest.mark.parametrize("damage", ["none", "lost", "of another prompt"])
def test_a_damaged_page_gives_a_wrong_answer(engine: Engine, decoder: Engine, damage: str) -> None:
    for page in range(NUM_LINES * LINE // BLOCK):
        prompt, other = (_question(f"{damage} {page} {which}", page) for which in ("mine", "other"))
        seed, pages = _prefill(engine, prompt)
        if damage == "lost":
            pages[page] = bytes(len(pages[page]))
        elif damage == "of another prompt":
            pages[page] = _prefill(engine, other)[1][page]
        assert (_decode(decoder, prompt, seed, pages) == prompt.answer) is (damage == "none")
