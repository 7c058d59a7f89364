import json
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem_perf.latency import Chunk, DecodeModel, LatencyModel, PrefillModel, TransferModel
from tandem_perf.online import OnlineLatency, chunk_row
from tandem_perf.profile import dump, load, parse, shipped
from tandem_perf.recursive import RecursiveFit

SEED = load("llama-3.1-8b/h200/tp1/bfloat16").latency


def true_model(factor: float, overhead: float) -> LatencyModel:
    """A worker that differs from its profile as real ones do: slower, and with a constant per step."""
    return LatencyModel(
        PrefillModel(SEED.prefill.a + overhead, SEED.prefill.b * factor, SEED.prefill.c * factor),
        DecodeModel(SEED.decode.a + overhead, SEED.decode.b * factor, SEED.decode.c * factor),
        TransferModel(0.004, 12e9),
    )


def feed(online: OnlineLatency, truth: LatencyModel, random: Random, samples: int) -> None:
    for _ in range(samples):
        chunk = Chunk(round(random.lognormvariate(6.5, 1)) + 1, random.choice((0, 0, 2000)))
        noise = random.gauss(1, 0.05)
        online.prefilled(1, *chunk_row(chunk), truth.prefill.seconds([chunk]) * noise)
        batch = random.randint(1, 64)
        kv_tokens = batch * random.randint(200, 3000)
        online.decoded(batch, kv_tokens, truth.decode.seconds(batch, kv_tokens) * random.gauss(1, 0.05))
        num_bytes = chunk.new_tokens * 131072
        online.transferred(num_bytes, truth.transfer.seconds(num_bytes) * random.gauss(1, 0.05) + 0.02, 0.02)


def errors(online: OnlineLatency, truth: LatencyModel) -> list[float]:
    """Relative errors at questions all over the range."""
    model, chunks = online.model, [Chunk(n, p) for n in (64, 512, 2048, 8192) for p in (0, 2000)]
    steps = [(1, 300), (8, 8000), (32, 30000), (64, 130000)]
    pairs = [(model.prefill.seconds([c]), truth.prefill.seconds([c])) for c in chunks]
    pairs += [(model.decode.seconds(*s), truth.decode.seconds(*s)) for s in steps]
    pairs += [
        (model.transfer.seconds(c.new_tokens << 17), truth.transfer.seconds(c.new_tokens << 17))
        for c in chunks
    ]
    return [abs(a - b) / b for a, b in pairs]


@pytest.mark.parametrize("seed", [SEED, None])
def test_the_model_finds_the_workers_real_speed(seed: LatencyModel | None) -> None:
    online, truth = OnlineLatency(seed), true_model(1.4, 0.003)
    feed(online, truth, Random(1), 300)
    assert max(errors(online, truth)) < 0.08


def test_the_model_follows_a_worker_that_slows_down() -> None:
    online, random = OnlineLatency(SEED), Random(2)
    feed(online, true_model(1.0, 0.001), random, 500)
    slower = true_model(1.5, 0.004)
    before = max(errors(online, slower))
    feed(online, slower, random, 500)
    assert before > 0.25
    assert max(errors(online, slower)) < 0.12


def test_a_profile_is_known_at_once_and_a_guess_after_some_samples() -> None:
    seeded, guessed = OnlineLatency(SEED), OnlineLatency()
    assert seeded.prefill_known
    assert not guessed.prefill_known
    feed(guessed, true_model(1.0, 0.001), Random(3), 8)
    assert guessed.prefill_known
    assert guessed.decode_known
    assert guessed.transfer_known


def test_a_load_that_never_varies_leaves_the_rest_of_the_profile_intact() -> None:
    online = OnlineLatency(SEED)
    chunk = Chunk(512)
    for _ in range(5000):
        online.prefilled(1, *chunk_row(chunk), SEED.prefill.seconds([chunk]))
    far = [Chunk(16384)]
    assert online.model.prefill.seconds(far) == pytest.approx(SEED.prefill.seconds(far), rel=0.05)


def test_one_stall_moves_little() -> None:
    online = OnlineLatency(SEED)
    feed(online, SEED, Random(4), 200)
    before = online.model.prefill.seconds([Chunk(1000)])
    online.prefilled(1, *chunk_row(Chunk(1000)), 60.0)
    assert online.model.prefill.seconds([Chunk(1000)]) == pytest.approx(before, rel=0.05)


def test_samples_that_say_almost_the_same_keep_the_model_sound() -> None:
    """Seven thousand short prompts of much the same length, while the worker's speed goes up and down."""
    online, random = OnlineLatency(SEED), Random(5)
    for number in range(7000):
        chunk = Chunk(random.randint(380, 400))
        speed = (1.2 if number % 1000 < 500 else 0.8) * random.gauss(1, 0.05)
        online.prefilled(1, *chunk_row(chunk), SEED.prefill.seconds([chunk]) * speed)
    model = online.model.prefill
    assert model.seconds([Chunk(390)]) == pytest.approx(SEED.prefill.seconds([Chunk(390)]), rel=0.3)
    assert model.seconds([Chunk(8192)]) == pytest.approx(SEED.prefill.seconds([Chunk(8192)]), rel=0.5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1e5), st.floats(1e-5, 1e3)), max_size=60))
def test_coefficients_stay_finite_and_non_negative(samples: list[tuple[float, float, float]]) -> None:
    fit = RecursiveFit((0.01, 1e-5, 1e-7), doubt=20.0)
    for batch, kv_tokens, seconds in samples:
        fit.observe((1.0, batch, kv_tokens), seconds)
        assert all(0 <= value < 1e9 for value in fit.coefficients)


def test_shipped_profiles_are_read_back_and_found_by_name() -> None:
    profiles = shipped()
    assert len(profiles) == 17
    assert parse(dump("test", profiles)) == profiles
    assert load("qwen3-32b/h200/tp2/fp8").kv_bytes_per_token == 262144
    with pytest.raises(ValueError, match="known: llama-3"):
        load("gpt-2/h200/tp1/fp8")


@pytest.mark.parametrize("text", ["[]", '{"profiles": 1}', json.dumps({"profiles": [{"model": "x"}]}), "{"])
def test_what_is_no_profile_file_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)
