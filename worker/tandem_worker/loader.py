"""From a checkpoint folder to an engine: device, dtype, weights, and how many KV blocks fit."""

import logging
import time
from pathlib import Path

import torch

from tandem_worker.config import EngineConfig
from tandem_worker.engine import Engine
from tandem_worker.errors import ConfigError
from tandem_worker.kv import KvLayout
from tandem_worker.model.checkpoint import Checkpoint
from tandem_worker.model.random_init import RandomSource
from tandem_worker.model.rope import rope_table
from tandem_worker.model.spec import ModelSpec, load_spec
from tandem_worker.model.transformer import Transformer
from tandem_worker.model.weights import ModelWeights, take_weights
from tandem_worker.model_runner import ModelInfo
from tandem_worker.runner import TorchRunner

logger = logging.getLogger(__name__)

CPU_KV_BYTES = 1 << 30
CUDA_KV_SHARE = 0.85
"""Of the memory that is free beside the weights; the rest is for activations."""


def load_engine(config: EngineConfig) -> Engine:
    """Loads the model and gives it a KV cache. Raises `CheckpointError` or `ConfigError`."""
    spec = load_spec(config.model)
    device = _device(config)
    dtype_name = _dtype_name(config, spec, device)
    dtype: torch.dtype = getattr(torch, dtype_name)
    max_model_len = _max_model_len(config, spec)
    model = load_model(config, spec, device, dtype, max_model_len)
    layout = KvLayout(spec.num_layers, spec.num_kv_heads, spec.head_dim, config.block_size, dtype_name)
    num_blocks = _num_blocks(config, layout, max_model_len, device)
    capacity = num_blocks * config.block_size
    if capacity < max_model_len:
        logger.warning(
            "the KV cache holds %d tokens: that cuts the model's length of %d", capacity, max_model_len
        )
    info = ModelInfo(layout, num_blocks, spec.vocab_size, min(max_model_len, capacity), spec.eos_token_ids)
    logger.info("loaded %s on %s in %s with %d KV blocks", config.model, device, dtype_name, num_blocks)
    return Engine(config, TorchRunner(model, info), time.monotonic)


def load_model(
    config: EngineConfig, spec: ModelSpec, device: torch.device, dtype: torch.dtype, max_model_len: int
) -> Transformer:
    """The model with its weights. Raises `CheckpointError`."""
    with torch.inference_mode():
        weights = _weights(config, spec, device, dtype)
        cos, sin = rope_table(spec.rope, spec.head_dim, max_model_len)
        return Transformer(spec, weights, cos.to(device, dtype), sin.to(device, dtype))


def _device(config: EngineConfig) -> torch.device:
    has_cuda = torch.cuda.is_available()
    if config.device == "cuda" and not has_cuda:
        raise ConfigError("device is cuda, but torch finds no CUDA device: use cpu or auto")
    return torch.device("cuda" if has_cuda and config.device != "cpu" else "cpu")


def _dtype_name(config: EngineConfig, spec: ModelSpec, device: torch.device) -> str:
    if config.dtype != "auto":
        return config.dtype
    return spec.dtype if device.type == "cuda" else "float32"


def _max_model_len(config: EngineConfig, spec: ModelSpec) -> int:
    if config.max_model_len is not None and config.max_model_len > spec.max_position:
        raise ConfigError(
            f"max_model_len is {config.max_model_len}: the model's limit is {spec.max_position} tokens"
        )
    return config.max_model_len or spec.max_position


def _weights(config: EngineConfig, spec: ModelSpec, device: torch.device, dtype: torch.dtype) -> ModelWeights:
    if config.random_weights:
        return take_weights(spec, RandomSource(config.seed, spec.initializer_range, device, dtype))
    checkpoint = Checkpoint(Path(config.model), device, dtype)
    weights = take_weights(spec, checkpoint)
    checkpoint.check_all_taken(("rotary_emb.inv_freq", *(["lm_head.weight"] if spec.tied_embeddings else [])))
    return weights


def _num_blocks(config: EngineConfig, layout: KvLayout, max_model_len: int, device: torch.device) -> int:
    """Never more than all sequences at full length could fill."""
    if config.num_blocks is not None:
        return config.num_blocks
    kv_bytes = config.kv_memory_bytes
    if kv_bytes is None:
        kv_bytes = (
            int(torch.cuda.mem_get_info(device)[0] * CUDA_KV_SHARE) if device.type == "cuda" else CPU_KV_BYTES
        )
    num_blocks = kv_bytes // layout.block_bytes
    if num_blocks < 1:
        raise ConfigError(
            f"{kv_bytes} bytes hold no KV block of {layout.block_bytes} bytes: raise kv_memory_bytes"
        )
    return min(num_blocks, config.max_num_seqs * -(-max_model_len // layout.block_size))
