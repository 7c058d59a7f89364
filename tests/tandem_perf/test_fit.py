import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem_perf.fit import (
    DecodeSample,
    PrefillSample,
    TransferSample,
    fit_decode,
    fit_prefill,
    fit_transfer,
    mean_relative_error,
)
from tandem_perf.latency import Chunk, DecodeModel, PrefillModel, TransferModel
from tandem_perf.least_squares import FitError, non_negative_least_squares

LENGTHS = (64, 256, 512, 1024, 2048, 4096, 8192)


def prefill_sample(model: PrefillModel, *chunks: Chunk) -> PrefillSample:
    return PrefillSample(chunks, model.seconds(chunks))


@settings(max_examples=50, deadline=None)
@given(st.floats(1e-4, 0.1), st.floats(1e-6, 1e-3), st.floats(1e-11, 1e-7))
def test_exact_samples_give_the_prefill_model_back(a: float, b: float, c: float) -> None:
    model = PrefillModel(a, b, c)
    samples = [prefill_sample(model, Chunk(n, p)) for n in LENGTHS for p in (0, 1024)]
    samples.append(prefill_sample(model, *(Chunk(n) for n in LENGTHS)))
    fitted = fit_prefill(samples)
    assert mean_relative_error(lambda s: fitted.seconds(s.chunks), samples) < 1e-5


def test_exact_samples_give_decode_and_transfer_back() -> None:
    decode, transfer = DecodeModel(0.005, 2e-5, 3e-8), TransferModel(0.001, 3e9)
    steps = [(batch, batch * context) for batch in (1, 8, 64) for context in (100, 1000)]
    fitted = fit_decode([DecodeSample(batch, kv, decode.seconds(batch, kv)) for batch, kv in steps])
    assert (fitted.a, fitted.b, fitted.c) == pytest.approx((decode.a, decode.b, decode.c))
    moved = fit_transfer([TransferSample(n, transfer.seconds(n)) for n in (10**6, 10**7, 10**8)])
    assert (moved.a, moved.bandwidth) == pytest.approx((transfer.a, transfer.bandwidth))


def test_measured_decode_steps_are_met_within_five_percent() -> None:
    """vLLM 0.26, Llama-3.1-8B shape, bf16, one H200: mean context 1,024, step in milliseconds by batch."""
    measured = {1: 4.87, 8: 5.20, 32: 6.17, 64: 7.42, 128: 10.13}
    samples = [DecodeSample(batch, batch * 1024, ms / 1000) for batch, ms in measured.items()]
    samples.append(DecodeSample(64, 64 * 512, 0.0063))
    model = fit_decode(samples)
    assert mean_relative_error(lambda s: model.seconds(s.batch, s.kv_tokens), samples) < 0.05


def test_a_coefficient_that_would_be_negative_becomes_zero() -> None:
    falling = [TransferSample(10**6, 0.010), TransferSample(10**7, 0.009), TransferSample(10**8, 0.008)]
    model = fit_transfer(falling)
    assert model.bandwidth == math.inf
    assert 0.008 < model.a < 0.010


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_other_non_negative_solution_is_better(data: st.DataObject) -> None:
    cell = st.floats(-10, 10)
    rows = data.draw(st.lists(st.tuples(cell, cell, cell), min_size=4, max_size=8))
    targets = data.draw(st.lists(cell, min_size=len(rows), max_size=len(rows)))

    def residual(x: tuple[float, ...]) -> float:
        return sum(
            (sum(a * b for a, b in zip(r, x, strict=True)) - t) ** 2
            for r, t in zip(rows, targets, strict=True)
        )

    try:
        best = non_negative_least_squares(rows, targets)
    except FitError:
        return
    assert min(best) >= 0
    other = data.draw(st.tuples(*[st.floats(0, 10)] * 3))
    assert residual(best) <= residual(other) * (1 + 1e-6) + 1e-6


def test_samples_that_say_too_little_are_refused() -> None:
    with pytest.raises(FitError, match="too few"):
        fit_transfer([])
    with pytest.raises(FitError, match="too few"):
        fit_decode([DecodeSample(1, 1, 0.1)])
    with pytest.raises(FitError, match="collinear"):
        fit_transfer([TransferSample(1000, 0.1), TransferSample(1000, 0.2)])
    with pytest.raises(FitError, match="positive"):
        fit_transfer([TransferSample(1000, 0.0), TransferSample(2000, 0.2)])
    with pytest.raises(FitError, match="no samples"):
        mean_relative_error(lambda s: s.seconds, list[TransferSample]())
