"""Chained block hashes: a block's hash names its tokens and all before them. Router and workers agree."""

import struct
from collections.abc import Sequence
from hashlib import sha256

HASH_BYTES = 32


def root_hash(salt: str = "") -> bytes:
    """The parent of every first block. Different salts (model, revision, tenant) never share a hash."""
    return sha256(b"tandem-kv-1:" + salt.encode()).digest()


def block_hash(parent: bytes, token_ids: Sequence[int]) -> bytes:
    """The hash of a full block: SHA-256 of the parent's hash and the token ids as little-endian uint32."""
    return sha256(parent + struct.pack(f"<{len(token_ids)}I", *token_ids)).digest()


def block_hashes(token_ids: Sequence[int], block_size: int, salt: str = "") -> list[bytes]:
    """The hashes of all full blocks of a prompt, in order; a last, partial block has none."""
    hashes: list[bytes] = []
    parent = root_hash(salt)
    for start in range(0, len(token_ids) - block_size + 1, block_size):
        parent = block_hash(parent, token_ids[start : start + block_size])
        hashes.append(parent)
    return hashes
