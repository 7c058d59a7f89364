"""The sampler against plain reference arithmetic, and its draws against the probabilities."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem_worker.gumbel import gumbel_noise
from tandem_worker.request import Request, SamplingParams
from tandem_worker.sampler import cut, penalize, sample
from tandem_worker.sequence import Sequence as Seq

CPU = torch.device("cpu")
VOCAB = 12


def _seq(prompt: Sequence[int] = (1,), output: Sequence[int] = (), seed: int = 0, **params: Any) -> Seq:
    seq = Seq(Request("r", tuple(prompt), SamplingParams(**{"max_tokens": 9, **params})), seed, 0, 0.0)
    seq.token_ids += output
    return seq


def _logits() -> st.SearchStrategy[list[float]]:
    return st.lists(st.integers(-40, 40), min_size=VOCAB, max_size=VOCAB, unique=True).map(
        lambda numbers: [number / 8 for number in numbers]
    )


def _softmax(logits: Sequence[float]) -> list[float]:
    weights = [math.exp(value - max(logits)) for value in logits]
    return [weight / sum(weights) for weight in weights]


def _kept(logits: Sequence[float], params: SamplingParams) -> set[int]:
    """The tokens that stay, in plain Python: min-p, then top-k, then top-p over what these leave."""
    scaled = [value / params.temperature for value in logits]
    probs = _softmax(scaled)
    ranked = sorted(range(len(logits)), key=lambda token: -scaled[token])
    ranked = [token for token in ranked if probs[token] >= params.min_p * max(probs)]
    ranked = ranked[: params.top_k or None]
    left = dict(zip(ranked, _softmax([scaled[token] for token in ranked]), strict=True))
    kept: set[int] = set()
    for token in ranked:
        if sum(left[other] for other in kept) < params.top_p:
            kept.add(token)
    return kept


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            _logits(),
            st.builds(
                SamplingParams,
                max_tokens=st.just(1),
                temperature=st.sampled_from([0.3, 1.0, 1.7]),
                top_p=st.sampled_from([0.13, 0.52, 0.91, 1.0]),
                top_k=st.sampled_from([0, 1, 3, 7, 100]),
                min_p=st.sampled_from([0.0, 0.07, 0.41]),
            ),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_cuts_keep_the_tokens_of_the_reference(rows: list[tuple[list[float], SamplingParams]]) -> None:
    scores = cut(torch.tensor([logits for logits, _ in rows]), [params for _, params in rows])
    for row, (logits, params) in zip(scores, rows, strict=True):
        assert set(row.isfinite().nonzero().flatten().tolist()) == _kept(logits, params)
        for token in _kept(logits, params):
            assert float(row[token]) == pytest.approx(logits[token] / params.temperature, rel=1e-5, abs=1e-6)


def test_a_top_p_of_one_cuts_nothing_beside_one_that_cuts() -> None:
    torch.manual_seed(0)
    params = [SamplingParams(max_tokens=1), SamplingParams(max_tokens=1, top_p=0.5)]
    kept = cut(torch.randn(1, 150_000).expand(2, -1), params).isfinite().sum(dim=-1)
    assert kept[0] == 150_000
    assert kept[1] < 75_000


@settings(max_examples=80, deadline=None)
@given(
    logits=_logits(),
    prompt=st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=6),
    output=st.lists(st.integers(0, VOCAB - 1), max_size=8),
    repetition=st.sampled_from([0.5, 1.0, 1.4]),
    presence=st.sampled_from([-0.5, 0.0, 1.0]),
    frequency=st.sampled_from([-0.3, 0.0, 0.7]),
)
def test_penalties_follow_their_definitions(
    logits: list[float],
    prompt: list[int],
    output: list[int],
    repetition: float,
    presence: float,
    frequency: float,
) -> None:
    penalties: dict[str, Any] = {
        "repetition_penalty": repetition,
        "presence_penalty": presence,
        "frequency_penalty": frequency,
    }
    given_logits = torch.tensor([logits, logits])
    penalized = penalize(given_logits, [_seq(prompt, output, **penalties), _seq(prompt, output)])
    for token, value in enumerate(logits):
        expected = value
        if token in prompt or token in output:
            expected = value / repetition if value > 0 else value * repetition
        expected -= frequency * output.count(token) + presence * (token in output)
        assert float(penalized[0, token]) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert penalized[1].tolist() == logits
    assert given_logits.tolist() == [logits, logits]


def test_greedy_takes_the_most_likely_token_after_penalties() -> None:
    logits = torch.tensor([[0.0, 3.0, 2.0], [0.0, 3.0, 2.0]])
    greedy = _seq(temperature=0.0)
    penalized = _seq(output=[1], temperature=0.0, presence_penalty=2.0)
    assert [token.token_id for token in sample(logits, [greedy, penalized])] == [1, 2]


@pytest.mark.parametrize("temperature", [1e-9, 1e-4])
def test_a_tiny_temperature_is_greedy(temperature: float) -> None:
    logits = torch.tensor([[5.0, 5.2, -3.0]])
    assert sample(logits, [_seq(seed=4, temperature=temperature)])[0].token_id == 1


def test_draws_have_the_probabilities_of_the_model() -> None:
    probs, num = [0.5, 0.3, 0.15, 0.05], 20_000
    logits = torch.tensor([probs]).log().expand(num, -1)
    drawn = Counter(token.token_id for token in sample(logits, [_seq(seed=seed) for seed in range(num)]))
    chi_square = sum((drawn[token] - num * p) ** 2 / (num * p) for token, p in enumerate(probs))
    assert chi_square < 16.3  # 3 degrees of freedom, 0.1 %


def test_positions_of_one_seed_draw_independently() -> None:
    logits = torch.zeros(1, 2).expand(4096, -1)
    seqs = [_seq(output=[0] * position, seed=9) for position in range(4096)]
    drawn = [token.token_id for token in sample(logits, seqs)]
    pairs = Counter(pairwise(drawn))
    assert all(900 < count < 1150 for count in pairs.values())
    assert len(pairs) == 4


def test_a_draw_depends_on_seed_and_position_only() -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 500)
    chosen = _seq(output=[3, 4], seed=77)
    alone = sample(logits[:1], [chosen])[0]
    crowd = sample(logits[[1, 0, 2]], [_seq(seed=1), _seq([8, 9], [5, 6], seed=77), _seq(temperature=0.0)])[1]
    assert alone == crowd


def test_noise_is_a_standard_gumbel_variable() -> None:
    noise = gumbel_noise([1, 2, 3, -4], [0, 1, 2, 2**40], 150_000, CPU)
    assert noise.isfinite().all()
    assert float(noise.mean()) == pytest.approx(0.5772, abs=0.01)
    assert float(noise.var()) == pytest.approx(math.pi**2 / 6, abs=0.03)
    assert float(torch.corrcoef(noise).triu(1).abs().max()) < 0.02


def test_a_single_token_left_is_always_drawn() -> None:
    logits = torch.randn(300, 40)
    seqs = [_seq(seed=seed, top_k=1) for seed in range(300)]
    assert [token.token_id for token in sample(logits, seqs)] == logits.argmax(-1).tolist()


def test_logprobs_come_from_the_raw_logits_and_only_for_who_asks() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0]] * 3)
    asked = _seq(output=[2], temperature=0.0, presence_penalty=9.0, num_logprobs=2)
    tokens = sample(logits, [asked, _seq(), _seq(temperature=0.0, num_logprobs=0)])
    expected = logits[0].log_softmax(-1).tolist()
    assert tokens[0].token_id == 1
    assert tokens[0].logprobs is not None
    assert tokens[0].logprobs.sampled == pytest.approx(expected[1])
    assert [token for token, _ in tokens[0].logprobs.top] == [2, 1]
    assert [value for _, value in tokens[0].logprobs.top] == pytest.approx([expected[2], expected[1]])
    assert tokens[1].logprobs is None
    assert tokens[2].logprobs is not None
    assert tokens[2].logprobs.top == ()
