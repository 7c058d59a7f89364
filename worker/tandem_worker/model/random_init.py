"""Random weights from a seed, for a config.json without a checkpoint."""

from dataclasses import dataclass
from hashlib import sha256

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class RandomSource:
    """A tensor depends on seed, name and kind of device only, so workers with one seed have one model."""

    seed: int
    std: float
    device: torch.device
    dtype: torch.dtype

    def take(self, name: str, *shape: int) -> Tensor:
        """Norms are 1, biases 0, matrices normal with `std`."""
        if name.endswith("norm.weight"):
            return torch.ones(shape, device=self.device, dtype=self.dtype)
        if name.endswith(".bias"):
            return torch.zeros(shape, device=self.device, dtype=self.dtype)
        seed = int.from_bytes(sha256(f"{self.seed}:{name}".encode()).digest()[:7])
        generator = torch.Generator(self.device).manual_seed(seed)
        weights = torch.empty(shape, device=self.device, dtype=self.dtype)
        return weights.normal_(0.0, self.std, generator=generator)
