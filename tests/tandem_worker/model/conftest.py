"""Small random checkpoints of every family, written by transformers, which is also the reference."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tandem_worker.config import EngineConfig
from tandem_worker.engine import Engine
from tandem_worker.loader import load_engine

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "llama-tied": ("Llama", {"tie_word_embeddings": True, "num_key_value_heads": 1}),
    "llama-bias": ("Llama", {"attention_bias": True, "mlp_bias": True, "head_dim": 8}),
    "llama-3.1": ("Llama", {"rope_parameters": LLAMA3}),
    "llama-linear": (
        "Llama",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}},
    ),
    "qwen2": ("Qwen2", {}),
    "qwen2-tied": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3", {"head_dim": 24}),
    "qwen3-tied": ("Qwen3", {"head_dim": 16, "tie_word_embeddings": True, "num_key_value_heads": 4}),
}
SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 99,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "eos_token_id": None,
    "bos_token_id": None,
}


@dataclass(frozen=True)
class Reference:
    """A checkpoint's folder and the model that transformers makes of it."""

    folder: Path
    model: Any

    def logits(self, token_ids: list[int]) -> torch.Tensor:
        with torch.inference_mode():
            logits: torch.Tensor = self.model(torch.tensor([token_ids])).logits[0]
        return logits

    def greedy(self, token_ids: list[int], num_tokens: int) -> list[int]:
        tokens = list(token_ids)
        for _ in range(num_tokens):
            tokens.append(int(self.logits(tokens)[-1].argmax()))
        return tokens[len(token_ids) :]


@pytest.fixture(scope="session")
def references(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Reference]:
    """By variant; each is made once."""
    made: dict[str, Reference] = {}

    def get(variant: str) -> Reference:
        if variant not in made:
            folder = tmp_path_factory.mktemp(variant)
            made[variant] = _make(variant, folder)
        return made[variant]

    return get


@pytest.fixture(scope="session")
def make_engine() -> Callable[..., Engine]:
    """An engine over a checkpoint, float32 on the CPU, with small blocks."""

    def make(folder: Path, **changes: Any) -> Engine:
        settings: dict[str, Any] = {"device": "cpu", "dtype": "float32", "block_size": 4, "num_blocks": 64}
        return load_engine(EngineConfig(folder, **{**settings, **changes}))

    return make


def _make(variant: str, folder: Path) -> Reference:
    family, changes = VARIANTS[variant]
    config = getattr(transformers, f"{family}Config")(**{**SHAPE, **changes})
    torch.manual_seed(sum(variant.encode()))
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("bias", "norm.weight")):
                parameter.add_(torch.randn_like(parameter) * 0.3)
    model.save_pretrained(folder)
    return Reference(folder, model)
