"""Rotary position embedding in the half-split form of Hugging Face, with linear and Llama 3.1 scaling."""

import math

import torch
from torch import Tensor

from tandem_worker.model.spec import RopeSpec


def rope_table(rope: RopeSpec, head_dim: int, num_positions: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines, float32, each [num_positions, head_dim]: the same numbers in both halves."""
    angles = torch.outer(
        torch.arange(num_positions, dtype=torch.float32), _inverse_frequencies(rope, head_dim)
    )
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates x [num_tokens, num_heads, head_dim] by its positions' cos and sin [num_tokens, 1, head_dim]."""
    half = x.shape[-1] // 2
    rotated = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return x * cos + rotated * sin


def _inverse_frequencies(rope: RopeSpec, head_dim: int) -> Tensor:
    inverse = 1.0 / rope.theta ** (torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim)
    if rope.rope_type == "linear":
        return inverse / rope.factor
    return _llama3(rope, inverse) if rope.rope_type == "llama3" else inverse


def _llama3(rope: RopeSpec, inverse: Tensor) -> Tensor:
    """Long wavelengths are stretched by `factor`, short ones kept, those between blended (Llama 3.1)."""
    turns = rope.original_max_position * inverse / (2 * math.pi)
    share = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
    share = share.clamp(0.0, 1.0)
    return (1 - share) * inverse / rope.factor + share * inverse
