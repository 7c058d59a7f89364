"""What the KV cache looks like from outside: its layout, held KV and cache events. No torch."""

from dataclasses import dataclass

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True)
class KvLayout:
    """The shape of cached KV. Two workers can hand over only when their layouts are equal."""

    num_layers: int
    num_kv_heads: int
    head_dim: int
    block_size: int
    dtype: str

    @property
    def block_bytes(self) -> int:
        """Bytes of one block: keys and values of `block_size` tokens in all layers."""
        numbers = self.num_layers * 2 * self.block_size * self.num_kv_heads * self.head_dim
        return numbers * DTYPE_BYTES[self.dtype]


@dataclass(frozen=True, slots=True)
class HeldKv:
    """Prompt KV of a finished request that waits for another worker: `num_tokens` tokens in `block_ids`."""

    block_ids: tuple[int, ...]
    num_tokens: int


@dataclass(frozen=True, slots=True)
class BlockStored:
    """A full block entered the prefix cache. `parent_hash` is empty for the first block of a prompt."""

    block_hash: bytes
    parent_hash: bytes
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BlocksRemoved:
    block_hashes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class AllBlocksCleared:
    """Forget all blocks of this worker. What is still cached follows as `BlockStored`."""


KvEvent = BlockStored | BlocksRemoved | AllBlocksCleared
