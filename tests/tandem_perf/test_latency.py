import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem_perf.latency import Chunk, DecodeModel, LatencyModel, PrefillModel, TransferModel


def test_prefill_is_the_sum_of_start_tokens_and_attention() -> None:
    model = PrefillModel(a=0.01, b=0.001, c=1e-6)
    seconds = model.seconds([Chunk(100), Chunk(50, prefix_tokens=200)])
    assert seconds == pytest.approx(0.01 + 0.001 * 150 + 1e-6 * (100 * 50 + 50 * 225))


def test_decode_and_transfer_follow_their_formulas() -> None:
    assert DecodeModel(0.005, 0.0001, 1e-7).seconds(8, 10_000) == pytest.approx(0.005 + 0.0008 + 0.001)
    assert TransferModel(0.002, 1e9).seconds(5_000_000) == pytest.approx(0.007)
    assert TransferModel(0.002, math.inf).seconds(5_000_000) == 0.002


def test_nothing_to_do_takes_no_time() -> None:
    assert PrefillModel(1, 1, 1).seconds([]) == 0
    assert PrefillModel(1, 1, 1).seconds([Chunk(0, prefix_tokens=64)]) == 0
    assert DecodeModel(1, 1, 1).seconds(0, 0) == 0
    assert TransferModel(1, 1).seconds(0) == 0


@given(st.integers(1, 4096), st.integers(1, 4096), st.integers(0, 4096))
def test_chunks_of_one_prompt_attend_to_as_much_as_the_whole(first: int, second: int, prefix: int) -> None:
    whole = Chunk(first + second, prefix).attended_tokens
    parts = Chunk(first, prefix).attended_tokens + Chunk(second, prefix + first).attended_tokens
    assert parts == pytest.approx(whole)


def test_impossible_coefficients_and_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="coefficient b"):
        PrefillModel(0, -1, 0)
    with pytest.raises(ValueError, match="coefficient a"):
        DecodeModel(math.nan, 0, 0)
    with pytest.raises(ValueError, match="bandwidth"):
        TransferModel(0, 0)
    with pytest.raises(ValueError, match="negative"):
        Chunk(-1)
    with pytest.raises(ValueError, match="negative"):
        DecodeModel(0, 0, 0).seconds(1, -1)


def test_a_model_survives_being_written_and_read() -> None:
    model = LatencyModel(PrefillModel(1, 2, 3), DecodeModel(4, 5, 6), TransferModel(7, 8))
    assert LatencyModel.from_dict(model.as_dict()) == model
    with pytest.raises(ValueError, match="decode"):
        LatencyModel.from_dict({"prefill": {"a": 1, "b": 1, "c": 1}})
    with pytest.raises(ValueError, match="latency model"):
        LatencyModel.from_dict(model.as_dict() | {"decode": {"a": 1, "b": 1, "d": 1}})
