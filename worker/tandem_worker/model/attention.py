"""Causal attention of a batch over the paged KV cache, with torch's scaled-dot-product attention."""

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from tandem_worker.model.batch import Batch, Segment


def attend(query: Tensor, key: Tensor, value: Tensor, layer_kv: Tensor, batch: Batch) -> Tensor:
    """Writes the rows' keys and values into the cache and attends to all tokens up to each row's own.

    query [num_rows, num_heads, head_dim]; key, value [num_rows, num_kv_heads, head_dim];
    layer_kv [2, num_blocks, block_size, num_kv_heads, head_dim]. Returns [num_rows, num_heads * head_dim].
    """
    keys, values = layer_kv[0], layer_kv[1]
    keys.flatten(0, 1).index_copy_(0, batch.slots, key)
    values.flatten(0, 1).index_copy_(0, batch.slots, value)
    outs = [_attend_segment(query, keys, values, segment) for segment in batch.segments]
    return outs[0] if len(outs) == 1 else torch.cat(outs)


def _attend_segment(query: Tensor, keys: Tensor, values: Tensor, segment: Segment) -> Tensor:
    rows = query[segment.start : segment.stop]
    attended = _prefill if segment.is_prefill else _single_tokens
    return attended(rows, _gather(keys, segment), _gather(values, segment), segment.mask)


def _gather(blocks: Tensor, segment: Segment) -> Tensor:
    """[num_sequences, context, num_kv_heads, head_dim]: the blocks of each sequence in a row."""
    num_sequences = len(segment.block_tables)
    return blocks.index_select(0, segment.block_tables.flatten()).view(num_sequences, -1, *blocks.shape[2:])


def _single_tokens(rows: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Query heads that share a KV head are rows of one matrix, so keys need no copy for each of them."""
    num_sequences, num_heads, head_dim = rows.shape
    num_kv_heads = keys.shape[2]
    grouped = rows.view(num_sequences, num_kv_heads, num_heads // num_kv_heads, head_dim)
    out = scaled_dot_product_attention(grouped, keys.transpose(1, 2), values.transpose(1, 2), attn_mask=mask)
    return out.reshape(num_sequences, num_heads * head_dim)


def _prefill(rows: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    num_rows, num_heads, head_dim = rows.shape
    if mask is None:
        keys, values = keys[:, :num_rows], values[:, :num_rows]
    share = num_heads // keys.shape[2]
    out = scaled_dot_product_attention(
        rows.transpose(0, 1)[None],
        keys.transpose(1, 2).repeat_interleave(share, dim=1),
        values.transpose(1, 2).repeat_interleave(share, dim=1),
        attn_mask=mask,
        is_causal=mask is None,
    )
    return out[0].transpose(0, 1).reshape(num_rows, num_heads * head_dim)
