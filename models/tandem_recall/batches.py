"""Training batches as a function of the step number, whatever the number of loader processes."""

from random import Random

import torch
from torch.utils.data import Dataset

from tandem_recall.dialogue import training_dialogue
from tandem_recall.encoding import PAD, encode
from tandem_recall.settings import Settings

Batch = tuple[torch.Tensor, torch.Tensor]


class Batches(Dataset[Batch]):
    """Item i is the batch of step i: tokens, int16 [rows, length], and which of them the model says, bool."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __len__(self) -> int:
        return self._settings.num_steps

    def __getitem__(self, step: int) -> Batch:
        rng = Random(f"{self._settings.seed}/{step}")
        length = self._settings.draw_length(rng, step)
        rows = [_row(rng, length) for _ in range(self._settings.tokens_per_step // length)]
        return torch.tensor([tokens for tokens, _ in rows], dtype=torch.int16), torch.tensor(
            [spoken for _, spoken in rows]
        )


def _row(rng: Random, length: int) -> tuple[list[int], list[bool]]:
    """One dialogue of at most `length` tokens, padded to it."""
    tokens: list[int] = []
    while not tokens:
        tokens, spoken = encode(training_dialogue(rng, length), length)
    missing = length - len(tokens)
    return tokens + [PAD] * missing, spoken + [False] * missing
