"""The decoder of Llama, Qwen2 and Qwen3: one function from a batch to logits."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import rms_norm, silu

from tandem_worker.model.attention import attend
from tandem_worker.model.batch import Batch
from tandem_worker.model.rope import apply_rope
from tandem_worker.model.spec import ModelSpec
from tandem_worker.model.weights import LayerWeights, ModelWeights


@dataclass(frozen=True, slots=True)
class Transformer:
    """A model on its device. `cos` and `sin` are the rotary table, [max_model_len, head_dim]."""

    spec: ModelSpec
    weights: ModelWeights
    cos: Tensor
    sin: Tensor

    def forward(self, batch: Batch, kv: Tensor) -> Tensor:
        """Writes the batch's KV into `kv` [num_layers, 2, num_blocks, block_size, num_kv_heads, head_dim].

        Returns the logits of the rows to sample from, float32 [len(batch.last_rows), vocab_size].
        """
        weights, eps = self.weights, self.spec.norm_eps
        cos, sin = self.cos[batch.positions][:, None], self.sin[batch.positions][:, None]
        x = weights.embedding[batch.token_ids]
        for layer, layer_kv in zip(weights.layers, kv, strict=True):
            normed = rms_norm(x, layer.attention_norm.shape, layer.attention_norm, eps)
            x = x + self._attention(layer, normed, cos, sin, layer_kv, batch)
            normed = rms_norm(x, layer.mlp_norm.shape, layer.mlp_norm, eps)
            x = x + _mlp(layer, normed)
        x = rms_norm(x[batch.last_rows], weights.norm.shape, weights.norm, eps)
        return (x @ weights.lm_head.T).float()

    def _attention(
        self, layer: LayerWeights, x: Tensor, cos: Tensor, sin: Tensor, layer_kv: Tensor, batch: Batch
    ) -> Tensor:
        spec = self.spec
        heads = [spec.num_heads, spec.num_kv_heads, spec.num_kv_heads]
        query, key, value = torch.split(layer.qkv(x).view(len(x), sum(heads), spec.head_dim), heads, dim=1)
        if layer.query_norm is not None and layer.key_norm is not None:
            query = rms_norm(query, layer.query_norm.shape, layer.query_norm, spec.norm_eps)
            key = rms_norm(key, layer.key_norm.shape, layer.key_norm, spec.norm_eps)
        query, key = apply_rope(query, cos, sin), apply_rope(key, cos, sin)
        return layer.attention_out(attend(query, key, value, layer_kv, batch))


def _mlp(layer: LayerWeights, x: Tensor) -> Tensor:
    gate, up = layer.gate_up(x).chunk(2, dim=-1)
    return layer.down(silu(gate) * up)
