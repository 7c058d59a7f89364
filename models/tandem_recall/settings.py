"""The model's shape and the training schedule."""

import math
from dataclasses import dataclass
from random import Random
from typing import Any

from tandem_recall.encoding import MESSAGE_END, PAD, VOCAB_SIZE

MODEL: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
    "bos_token_id": None,
    "eos_token_id": MESSAGE_END,
    "pad_token_id": PAD,
}


@dataclass(frozen=True, slots=True)
class Stage:
    """Until `end` (a share of all steps), rows are of one of `lengths` tokens, drawn with `weights`."""

    end: float
    lengths: tuple[int, ...]
    weights: tuple[float, ...]


STAGES = (
    Stage(0.15, (128,), (1.0,)),
    Stage(0.3, (128, 256), (0.3, 0.7)),
    Stage(0.45, (256, 512), (0.3, 0.7)),
    Stage(1.0, (256, 512, 1280, 2048), (0.15, 0.15, 0.4, 0.3)),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """One training run. `context_weight`: the weight of a token that the model need not say."""

    num_steps: int = 14_000
    tokens_per_step: int = 65_536
    seed: int = 1
    peak_rate: float = 2e-3
    num_warmup_steps: int = 200
    weight_decay: float = 0.05
    context_weight: float = 0.05
    stages: tuple[Stage, ...] = STAGES

    def draw_length(self, rng: Random, step: int) -> int:
        """The row length of a step."""
        share = step / self.num_steps
        stage = next(stage for stage in self.stages if share < stage.end)
        (length,) = rng.choices(stage.lengths, stage.weights)
        return length

    def rate(self, step: int) -> float:
        """The learning rate of a step: linear warm-up, then half a cosine down to 2 % of the peak."""
        if step < self.num_warmup_steps:
            return self.peak_rate * (step + 1) / self.num_warmup_steps
        done = (step - self.num_warmup_steps) / max(1, self.num_steps - self.num_warmup_steps)
        return self.peak_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
