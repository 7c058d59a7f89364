"""The seam between the engine and a device. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tandem_worker.kv import KvLayout
from tandem_worker.request import SampledToken
from tandem_worker.sequence import Chunk


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What the engine must know of the loaded model.

    `max_model_len` counts prompt and output tokens, and is never more than `num_blocks` blocks hold: alone, a
    sequence can always run to its end.
    """

    layout: KvLayout
    num_blocks: int
    vocab_size: int
    max_model_len: int
    eos_token_ids: frozenset[int]


class ModelRunner(Protocol):
    """Computes chunks on the device and moves KV in and out of it."""

    @property
    def info(self) -> ModelInfo: ...

    def run(self, chunks: Sequence[Chunk]) -> list[SampledToken | None]:
        """Writes the chunks' KV; returns a new token for each chunk that `samples`, None for the others."""

    def read_blocks(self, block_ids: Sequence[int]) -> bytes: ...

    def write_blocks(self, block_ids: Sequence[int], data: bytes | bytearray | memoryview) -> None: ...
