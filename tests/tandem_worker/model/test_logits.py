"""The model computes what transformers computes, however its tokens are batched, chunked and paged."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tandem_worker.config import EngineConfig
from tandem_worker.loader import load_model
from tandem_worker.model.batch import make_batch
from tandem_worker.model.spec import load_spec
from tandem_worker.model.transformer import Transformer
from tandem_worker.request import Request, SamplingParams
from tandem_worker.sequence import Chunk, Sequence

BLOCK_SIZE = 4
VARIANTS = [
    "llama",
    "llama-tied",
    "llama-bias",
    "llama-3.1",
    "llama-linear",
    "qwen2",
    "qwen2-tied",
    "qwen3",
    "qwen3-tied",
]


def _load(folder: Path) -> tuple[Transformer, torch.Tensor]:
    spec = load_spec(folder)
    model = load_model(EngineConfig(folder), spec, torch.device("cpu"), torch.float32, spec.max_position)
    return model, torch.zeros(spec.num_layers, 2, 64, BLOCK_SIZE, spec.num_kv_heads, spec.head_dim)


def _sequence(token_ids: list[int], block_ids: list[int], num_computed: int = 0) -> Sequence:
    seq = Sequence(Request("r", tuple(token_ids), SamplingParams(max_tokens=1)), 0, 0, 0.0)
    seq.block_ids, seq.num_computed_tokens = block_ids, num_computed
    return seq


def _forward(model: Transformer, kv: torch.Tensor, *chunks: Chunk) -> torch.Tensor:
    """The logits of the sampling chunks, in the order of the batch."""
    with torch.inference_mode():
        return model.forward(make_batch(chunks, BLOCK_SIZE, torch.device("cpu")), kv)


def _prompt(length: int) -> list[int]:
    return [(7 * i * i + 3) % 99 for i in range(length)]


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_equal_those_of_transformers(references: Callable[[str], Any], variant: str) -> None:
    reference = references(variant)
    model, kv = _load(reference.folder)
    prompt = _prompt(61)
    expected = reference.logits(prompt)
    blocks = list(range(40, 24, -1))
    ends = [1, 2, 30, 31, 32, 60, 61]
    for start, end in zip([0, *ends], ends, strict=False):
        chunk = Chunk(_sequence(prompt[:end], blocks, start), end - start)
        torch.testing.assert_close(_forward(model, kv, chunk)[0], expected[end - 1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("variant", ["llama-3.1", "qwen2", "qwen3"])
def test_a_mixed_batch_gives_each_sequence_its_own_logits(
    references: Callable[[str], Any], variant: str
) -> None:
    reference = references(variant)
    model, kv = _load(reference.folder)
    lengths, computed = [1, 5, 40, 9, 17, 33], [0, 4, 39, 8, 0, 20]
    prompts = [[(token + i) % 99 for token in _prompt(length)] for i, length in enumerate(lengths)]
    tables = [list(range(i, 64, len(prompts))) for i in range(len(prompts))]
    for prompt, table, done in zip(prompts, tables, computed, strict=True):
        if done:
            _forward(model, kv, Chunk(_sequence(prompt[:done], table), done))
    chunks = [
        Chunk(_sequence(prompt, table, done), len(prompt) - done)
        for prompt, table, done in zip(prompts, tables, computed, strict=True)
    ]
    batch = make_batch(chunks, BLOCK_SIZE, torch.device("cpu"))
    for chunk, logits in zip(batch.chunks, _forward(model, kv, *chunks), strict=True):
        expected = reference.logits(chunk.sequence.token_ids)[-1]
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)


def test_what_lies_in_other_slots_does_not_matter(references: Callable[[str], Any]) -> None:
    model, kv = _load(references("llama").folder)
    prompt = _prompt(10)

    def last_logits(blocks: list[int]) -> torch.Tensor:
        _forward(model, kv, Chunk(_sequence(prompt[:9], blocks), 9))
        return _forward(model, kv, Chunk(_sequence(prompt, blocks, 9), 1))

    clean = last_logits([3, 1, 2])
    kv.normal_()
    assert torch.equal(clean, last_logits([7, 9, 8]))


def test_a_sequence_never_reads_a_block_that_is_not_its_own(references: Callable[[str], Any]) -> None:
    model, kv = _load(references("llama").folder)
    short, long = _prompt(11), _prompt(18)
    kv[:, :, 0] = torch.nan
    for prompt, blocks in ((short, [7, 9, 8]), (long, [1, 2, 3, 4, 5])):
        _forward(model, kv, Chunk(_sequence(prompt[:-1], blocks), len(prompt) - 1))
    chunks = Chunk(_sequence(short, [7, 9, 8], 10), 1), Chunk(_sequence(long, [1, 2, 3, 4, 5], 17), 1)
    batch = make_batch(chunks, BLOCK_SIZE, torch.device("cpu"))
    assert len(batch.segments) == 1
    assert _forward(model, kv, *chunks).isfinite().all()


def test_similar_contexts_share_a_segment_and_very_different_ones_do_not() -> None:
    lengths = [100, 5, 99, 60, 6, 3]
    chunks = [Chunk(_sequence([1] * n, list(range(25)), n - 1), 1) for n in lengths]
    batch = make_batch(chunks, BLOCK_SIZE, torch.device("cpu"))
    assert [len(chunk.sequence.token_ids) for chunk in batch.chunks] == [100, 99, 60, 6, 5, 3]
    assert [(segment.start, segment.stop) for segment in batch.segments] == [(0, 3), (3, 5), (5, 6)]
