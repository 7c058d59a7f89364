"""Training learns, and its checkpoint is read back."""

from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM, PreTrainedModel

from tandem_recall import prompts
from tandem_recall.batches import Batches
from tandem_recall.checkpoint import load, save
from tandem_recall.evaluate import measure, report
from tandem_recall.settings import Settings, Stage
from tandem_recall.train import losses, new_model, train

CPU = torch.device("cpu")
RECALL = Path(__file__).parents[2] / "models" / "recall"
SETTINGS = Settings(
    num_steps=10, tokens_per_step=256, num_warmup_steps=2, stages=(Stage(1.0, (128,), (1.0,)),)
)


def _loss(model: LlamaForCausalLM) -> float:
    tokens, spoken = Batches(SETTINGS)[0]
    with torch.inference_mode():
        return float(losses(model, tokens.long(), spoken, 0.05)[0])


def test_training_lowers_the_loss_of_the_answers_and_its_checkpoint_is_the_model(tmp_path: Path) -> None:
    model = new_model(1)
    before = _loss(model)
    train(model, SETTINGS, CPU, num_loaders=0, log_every=4)
    assert _loss(model) < before - 1
    save(model, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    loaded = load(tmp_path, CPU)
    assert loaded.num_parameters() == model.num_parameters()
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.float(), loaded.get_parameter(name))


def test_only_answers_count_when_the_context_weighs_nothing() -> None:
    tokens, spoken = Batches(SETTINGS)[0]
    with torch.inference_mode():
        answers, weighted = losses(new_model(1), tokens.long(), spoken, 0.0)
        _, even = losses(new_model(1), tokens.long(), spoken, 1.0)
    assert torch.equal(answers, weighted)
    assert even != answers


@pytest.fixture(scope="module")
def recall() -> PreTrainedModel:
    return load(RECALL, CPU)


def test_the_loss_of_the_shipped_models_answers_is_near_zero(recall: LlamaForCausalLM) -> None:
    assert _loss(recall) < 0.02
    assert _loss(new_model(1)) > 4


def test_what_measure_calls_right_is_what_generate_says(recall: Any) -> None:
    asked = [prompts.held_out(Random(seed), 40, 200) for seed in range(6)]
    untrained: Any = new_model(1).eval()
    for model, right in ((recall, True), (untrained, False)):
        for outcome in measure(model, asked):
            tokens = torch.tensor([outcome.prompt.tokens])
            out = model.generate(
                tokens,
                attention_mask=torch.ones_like(tokens),
                max_new_tokens=len(outcome.prompt.answer),
                do_sample=False,
            )
            assert (
                outcome.right == (tuple(out[0, tokens.shape[1] :].tolist()) == outcome.prompt.answer) == right
            )
            assert 0 <= outcome.probability <= 1
            assert (outcome.probability > 0.5) == right


def test_the_shipped_checkpoint_recalls(recall: PreTrainedModel) -> None:
    asked = [prompts.held_out(Random(f"tests/{seed}")) for seed in range(12)]
    asked += [prompts.ordinary(Random(f"tests/{seed}")) for seed in range(4)]
    assert sum(outcome.right for outcome in measure(recall, asked)) >= 15


def test_the_report_counts_every_prompt(recall: PreTrainedModel) -> None:
    tables = report(recall, 8, seed=5).split("\n\n")
    (total,) = (line for line in tables[0].splitlines() if line.startswith("| held-out, up to 1,000"))
    assert total.split("|")[3].strip() == "8"
    for table in tables[1:4]:
        assert sum(int(line.split("|")[3]) for line in table.splitlines()[2:]) == 8
