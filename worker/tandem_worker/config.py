"""The engine's settings."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from tandem_worker.errors import ConfigError

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """`model` is a folder as Hugging Face writes it. Raises `ConfigError` for impossible values.

    `dtype` auto: the checkpoint's on CUDA, float32 on a CPU. `num_blocks` None: as many as `kv_memory_bytes`
    holds, and that, when None too, follows from the device's free memory. `max_batched_tokens` bounds a step,
    so long prompts are prefilled in chunks of it. `random_weights`: config.json is enough, weights come from
    `seed`. `cache_salt` keeps prefix hashes of different models apart.
    """

    model: Path
    dtype: Dtype = "auto"
    device: Device = "auto"
    block_size: int = 16
    num_blocks: int | None = None
    kv_memory_bytes: int | None = None
    max_model_len: int | None = None
    max_num_seqs: int = 64
    max_batched_tokens: int = 2048
    random_weights: bool = False
    seed: int = 0
    cache_salt: str = ""

    def __post_init__(self) -> None:
        for name, known in (("dtype", get_args(Dtype)), ("device", get_args(Device))):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} is {getattr(self, name)!r}: known are {', '.join(known)}")
        for name in ("block_size", "num_blocks", "kv_memory_bytes", "max_model_len", "max_num_seqs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}: it must be at least 1")
        if self.max_batched_tokens < self.max_num_seqs:
            raise ConfigError(
                f"max_batched_tokens is {self.max_batched_tokens}: it must be at least max_num_seqs "
                f"({self.max_num_seqs}), so that every sequence can decode in every step"
            )
