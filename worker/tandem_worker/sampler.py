"""From logits to tokens: penalties, temperature, min-p, top-k, top-p, in vLLM's order, then a seeded draw."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tandem_worker.gumbel import gumbel_noise
from tandem_worker.request import SampledToken, SamplingParams, TokenLogprobs
from tandem_worker.sequence import Sequence as Seq

GREEDY_BELOW = 1e-5
"""Temperatures below this are greedy, as in vLLM: dividing by them would overflow."""


def sample(logits: Tensor, sequences: Sequence[Seq]) -> list[SampledToken]:
    """One token for each row of `logits` [len(sequences), vocab_size], float32.

    Log-probabilities are the model's own: before penalties, temperature and cuts.
    """
    adjusted = penalize(logits, sequences)
    chosen = adjusted.argmax(dim=-1)
    rows = [row for row, seq in enumerate(sequences) if seq.sampling.temperature >= GREEDY_BELOW]
    if rows:
        drawn = [sequences[row] for row in rows]
        scores = cut(adjusted[rows], [seq.sampling for seq in drawn])
        seeds, positions = [seq.seed for seq in drawn], [seq.num_generated_tokens for seq in drawn]
        chosen[rows] = (scores + gumbel_noise(seeds, positions, logits.shape[1], logits.device)).argmax(
            dim=-1
        )
    token_ids: list[int] = chosen.tolist()
    logprobs = _logprobs(logits, token_ids, [seq.sampling.num_logprobs for seq in sequences])
    return [SampledToken(*pair) for pair in zip(token_ids, logprobs, strict=True)]


def penalize(logits: Tensor, sequences: Sequence[Seq]) -> Tensor:
    """Repetition over prompt and output (CTRL, arXiv 1909.05858); the others over the output (OpenAI)."""
    rows = [row for row, seq in enumerate(sequences) if _has_penalty(seq.sampling)]
    if rows:
        logits = logits.clone()
    for row in rows:
        _penalize_row(logits[row], sequences[row])
    return logits


def cut(logits: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    """Logits over temperature; minus infinity where min-p, top-k or top-p exclude a token, never the best.

    Top-p counts the probabilities of what min-p and top-k leave.
    """
    logits = logits / _column([p.temperature for p in params], logits)
    if any(p.min_p > 0 for p in params):
        probs = logits.softmax(dim=-1)
        least = _column([p.min_p for p in params], logits) * probs.amax(dim=-1, keepdim=True)
        logits = logits.masked_fill(probs < least, -torch.inf)
    if any(p.top_k > 0 or p.top_p < 1 for p in params):
        logits = _cut_sorted(logits, params)
    return logits


def _penalize_row(row: Tensor, seq: Seq) -> None:
    params = seq.sampling
    if params.repetition_penalty != 1.0:
        seen = _counts(seq.token_ids, row) > 0
        penalty = torch.where(row > 0, 1 / params.repetition_penalty, params.repetition_penalty)
        row.copy_(torch.where(seen, row * penalty, row))
    counts = _counts(seq.token_ids[seq.num_tokens - seq.num_generated_tokens :], row)
    row -= params.frequency_penalty * counts + params.presence_penalty * (counts > 0)


def _counts(token_ids: list[int], row: Tensor) -> Tensor:
    return torch.tensor(token_ids, dtype=torch.int64, device=row.device).bincount(minlength=len(row))


def _has_penalty(params: SamplingParams) -> bool:
    return (
        params.repetition_penalty != 1.0 or params.presence_penalty != 0.0 or params.frequency_penalty != 0.0
    )


def _cut_sorted(logits: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    ranked, order = logits.sort(dim=-1, descending=True, stable=True)
    top_k = _column([p.top_k or logits.shape[1] for p in params], logits)
    ranked = ranked.masked_fill(torch.arange(logits.shape[1], device=logits.device) >= top_k, -torch.inf)
    probs = ranked.softmax(dim=-1)
    before = probs.cumsum(dim=-1) - probs
    # Rounding can lift the sum to 1, so that top_p = 1 in a mixed batch would cut the tail.
    top_p = _column([p.top_p if p.top_p < 1 else 2.0 for p in params], logits)
    return logits.scatter(-1, order, ranked.masked_fill(before >= top_p, -torch.inf))


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like.device)[:, None]


def _logprobs(
    logits: Tensor, token_ids: Sequence[int], nums: Sequence[int | None]
) -> list[TokenLogprobs | None]:
    """Of the sampled token and the `num` most likely ones, for the rows that ask for them."""
    out: list[TokenLogprobs | None] = [None] * len(nums)
    rows = [row for row, num in enumerate(nums) if num is not None]
    if not rows:
        return out
    logprobs = logits[rows].log_softmax(dim=-1)
    sampled = logprobs.gather(1, torch.tensor(token_ids, device=logits.device)[rows][:, None])[:, 0].tolist()
    num_top = min(max(num or 0 for num in nums), logits.shape[1])
    values, ids = (top.tolist() for top in logprobs.topk(num_top, dim=-1))
    for i, row in enumerate(rows):
        top = tuple(zip(ids[i], values[i], strict=True))[: nums[row]]
        out[row] = TokenLogprobs(sampled[i], top)
    return out
