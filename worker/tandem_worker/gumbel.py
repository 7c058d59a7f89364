"""Gumbel noise that depends on (seed, output position, token id) only: the same in any batch, on any device.

Adding it to log-probabilities and taking the maximum samples from them (Gumbel, 1954). The noise is a hash of
its coordinates (Wellons' lowbias32), so a sequence that moves to another worker goes on with the same draws.
"""

from collections.abc import Sequence
from hashlib import blake2b

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_LARGEST_BELOW_ONE = 1 - 2**-24


def gumbel_noise(
    seeds: Sequence[int], positions: Sequence[int], num_tokens: int, device: torch.device
) -> Tensor:
    """Standard Gumbel noise, float32 [len(seeds), num_tokens]."""
    keys = torch.tensor([_key(*pair) for pair in zip(seeds, positions, strict=True)], device=device)
    hashed = _mix(torch.arange(num_tokens, device=device) ^ keys[:, :1])
    hashed = _mix((hashed + keys[:, 1:]) & _MASK)
    uniform = ((hashed + 0.5) * 2.0**-32).clamp_(max=_LARGEST_BELOW_ONE)
    return -torch.log(-torch.log1p(-uniform))


def _key(seed: int, position: int) -> tuple[int, int]:
    digest = blake2b(f"{seed}:{position}".encode(), digest_size=8).digest()
    return int.from_bytes(digest[:4]), int.from_bytes(digest[4:])


def _mix(x: Tensor) -> Tensor:
    """Wellons' lowbias32 on 32-bit values in int64; only the low half of the wrapping products is used."""
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & _MASK
    x = ((x ^ (x >> 15)) * 0x846CA68B) & _MASK
    return x ^ (x >> 16)
