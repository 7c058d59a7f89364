"""A fingerprint of a prompt's token ids: both ends of a hand-over must mean the same tokens."""

from collections.abc import Sequence
from hashlib import blake2b
from struct import pack


def prompt_digest(token_ids: Sequence[int]) -> bytes:
    """BLAKE2b, 16 bytes, of the ids as little-endian unsigned 32-bit integers."""
    return blake2b(pack(f"<{len(token_ids)}I", *token_ids), digest_size=16).digest()
