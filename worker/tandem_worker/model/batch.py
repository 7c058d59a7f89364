"""Chunks as tensors: flat token rows, KV slots, and the segments that attention handles in one call each."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from tandem_worker.sequence import Chunk

MAX_GATHERED_TOKENS = 1 << 18
"""Bounds the padded KV that one call gathers: 2^18 tokens of 8 heads of 128 bfloat16 numbers are 512 MiB."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows [start, stop) of the batch: one token of each of several sequences, or several tokens of one.

    `block_tables` [num_sequences, num_blocks]. `mask` is true where a row may look: for single tokens
    [num_sequences, 1, 1, context], for a prefill [num_rows, context], None when it begins at the first token.
    """

    start: int
    stop: int
    block_tables: Tensor
    mask: Tensor | None
    is_prefill: bool


@dataclass(frozen=True, slots=True)
class Batch:
    """The rows of one step. `chunks` is in the order of the rows; `last_rows` are the rows to sample from."""

    chunks: tuple[Chunk, ...]
    token_ids: Tensor
    positions: Tensor
    slots: Tensor
    segments: tuple[Segment, ...]
    last_rows: Tensor


def make_batch(chunks: Sequence[Chunk], block_size: int, device: torch.device) -> Batch:
    """Single tokens come first, those with the longest context first, then each prefill."""
    groups = _groups(chunks)
    rows = tuple(chunk for group in groups for chunk in group)
    ends = list(accumulate(chunk.num_tokens for chunk in rows))
    last_rows = [end - 1 for chunk, end in zip(rows, ends, strict=True) if chunk.samples]
    stops = list(accumulate(sum(chunk.num_tokens for chunk in group) for group in groups))
    return Batch(
        chunks=rows,
        token_ids=_tensor([token for chunk in rows for token in _token_ids(chunk)], device),
        positions=_tensor([position for chunk in rows for position in _positions(chunk)], device),
        slots=_tensor([slot for chunk in rows for slot in _slots(chunk, block_size)], device),
        segments=tuple(
            _segment(group, start, stop, block_size, device)
            for group, start, stop in zip(groups, [0, *stops], stops, strict=False)
        ),
        last_rows=_tensor(last_rows, device),
    )


def _groups(chunks: Sequence[Chunk]) -> list[list[Chunk]]:
    """Single tokens whose contexts differ by less than half share a group, within the bound."""
    groups: list[list[Chunk]] = []
    longest = 0
    for chunk in sorted((chunk for chunk in chunks if chunk.num_tokens == 1), key=_context_len, reverse=True):
        if (
            groups
            and 2 * _context_len(chunk) > longest
            and (len(groups[-1]) + 1) * longest <= MAX_GATHERED_TOKENS
        ):
            groups[-1].append(chunk)
        else:
            groups.append([chunk])
            longest = _context_len(chunk)
    return [*groups, *([chunk] for chunk in chunks if chunk.num_tokens > 1)]


def _segment(group: Sequence[Chunk], start: int, stop: int, block_size: int, device: torch.device) -> Segment:
    lens = [_context_len(chunk) for chunk in group]
    num_blocks = -(-max(lens) // block_size)
    tables = [_padded(chunk.sequence.block_ids[:num_blocks], num_blocks) for chunk in group]
    context = torch.arange(num_blocks * block_size, device=device)
    mask: Tensor | None
    if group[0].num_tokens == 1:
        mask = (context < _tensor(lens, device)[:, None])[:, None, None, :]
    elif group[0].sequence.num_computed_tokens == 0:
        mask = None
    else:
        mask = context <= _tensor(list(_positions(group[0])), device)[:, None]
    return Segment(start, stop, _tensor(tables, device), mask, group[0].num_tokens > 1)


def _padded(block_ids: list[int], num_blocks: int) -> list[int]:
    """Pads with a block of the sequence itself, so that it never reads what another one wrote."""
    return block_ids + [block_ids[0]] * (num_blocks - len(block_ids))


def _context_len(chunk: Chunk) -> int:
    return chunk.sequence.num_computed_tokens + chunk.num_tokens


def _positions(chunk: Chunk) -> range:
    return range(chunk.sequence.num_computed_tokens, _context_len(chunk))


def _token_ids(chunk: Chunk) -> list[int]:
    return chunk.sequence.token_ids[chunk.sequence.num_computed_tokens : _context_len(chunk)]


def _slots(chunk: Chunk, block_size: int) -> list[int]:
    block_ids = chunk.sequence.block_ids
    return [
        block_ids[position // block_size] * block_size + position % block_size
        for position in _positions(chunk)
    ]


def _tensor(values: list[int] | list[list[int]], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.int64).to(device)
