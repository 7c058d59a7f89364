"""The weights of a model, taken by their Hugging Face names from a checkpoint or a random generator."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tandem_worker.model.spec import ModelSpec


class TensorSource(Protocol):
    """Gives a tensor by name, on its device and in its dtype. Raises `CheckpointError`."""

    def take(self, name: str, *shape: int) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Linear:
    """y = x weight^T + bias, weight [out, in]."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        return torch.nn.functional.linear(x, self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One decoder layer. Projections with one input are fused: query, key, value and gate, up."""

    attention_norm: Tensor
    qkv: Linear
    query_norm: Tensor | None
    key_norm: Tensor | None
    attention_out: Linear
    mlp_norm: Tensor
    gate_up: Linear
    down: Linear


@dataclass(frozen=True, slots=True)
class ModelWeights:
    embedding: Tensor
    layers: tuple[LayerWeights, ...]
    norm: Tensor
    lm_head: Tensor


def take_weights(spec: ModelSpec, source: TensorSource) -> ModelWeights:
    """All weights of the model. A tied output head is the embedding itself."""
    embedding = source.take("model.embed_tokens.weight", spec.vocab_size, spec.hidden_size)
    layers = tuple(_layer(spec, source, f"model.layers.{index}.") for index in range(spec.num_layers))
    norm = source.take("model.norm.weight", spec.hidden_size)
    if spec.tied_embeddings:
        return ModelWeights(embedding, layers, norm, embedding)
    return ModelWeights(
        embedding, layers, norm, source.take("lm_head.weight", spec.vocab_size, spec.hidden_size)
    )


def _layer(spec: ModelSpec, source: TensorSource, prefix: str) -> LayerWeights:
    attention, mlp, hidden = f"{prefix}self_attn.", f"{prefix}mlp.", spec.hidden_size
    query, key_value = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
    qkv = {"q_proj": query, "k_proj": key_value, "v_proj": key_value}
    gate_up = {"gate_proj": spec.intermediate_size, "up_proj": spec.intermediate_size}
    return LayerWeights(
        attention_norm=source.take(f"{prefix}input_layernorm.weight", hidden),
        qkv=_linear(source, attention, qkv, hidden, spec.qkv_bias),
        query_norm=source.take(f"{attention}q_norm.weight", spec.head_dim) if spec.qk_norm else None,
        key_norm=source.take(f"{attention}k_norm.weight", spec.head_dim) if spec.qk_norm else None,
        attention_out=_linear(source, attention, {"o_proj": hidden}, query, spec.out_bias),
        mlp_norm=source.take(f"{prefix}post_attention_layernorm.weight", hidden),
        gate_up=_linear(source, mlp, gate_up, hidden, spec.mlp_bias),
        down=_linear(source, mlp, {"down_proj": hidden}, spec.intermediate_size, spec.mlp_bias),
    )


def _linear(source: TensorSource, prefix: str, outs: dict[str, int], num_in: int, has_bias: bool) -> Linear:
    weights = [source.take(f"{prefix}{name}.weight", num_out, num_in) for name, num_out in outs.items()]
    if not has_bias:
        return Linear(torch.cat(weights), None)
    return Linear(
        torch.cat(weights), torch.cat([source.take(f"{prefix}{n}.bias", out) for n, out in outs.items()])
    )
