"""The whole engine on the CPU: tokens of transformers, hand-over bit for bit, sampling that moves along."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tandem_worker.engine import Engine
from tandem_worker.request import Request, SamplingParams, SeedToken, StepOutput

References = Callable[[str], Any]
MakeEngine = Callable[..., Engine]
GREEDY = SamplingParams(max_tokens=8, temperature=0.0)
SAMPLED = SamplingParams(
    max_tokens=8,
    temperature=0.9,
    top_p=0.9,
    top_k=40,
    min_p=0.01,
    seed=11,
    repetition_penalty=1.2,
    presence_penalty=0.3,
)


def _prompt(length: int) -> tuple[int, ...]:
    return tuple((5 * i * i + i + 2) % 99 for i in range(length))


def _run(engine: Engine, *requests: Request) -> dict[str, list[StepOutput]]:
    for request in requests:
        engine.add(request)
    return _finish(engine)


def _finish(engine: Engine) -> dict[str, list[StepOutput]]:
    outputs: dict[str, list[StepOutput]] = {}
    while engine.has_work():
        for output in engine.step().outputs:
            outputs.setdefault(output.request_id, []).append(output)
    engine.check_integrity()
    return outputs


def _tokens(outputs: Sequence[StepOutput]) -> list[int]:
    return [output.token_id for output in outputs]


@pytest.mark.parametrize("variant", ["llama-3.1", "qwen2-tied", "qwen3"])
@pytest.mark.parametrize("max_batched_tokens", [8, 2048])
def test_greedy_tokens_equal_those_of_transformers(
    references: References, make_engine: MakeEngine, variant: str, max_batched_tokens: int
) -> None:
    reference = references(variant)
    engine = make_engine(reference.folder, max_batched_tokens=max_batched_tokens, max_num_seqs=8)
    requests = [Request(f"r{n}", _prompt(n), GREEDY) for n in (1, 3, 4, 17, 40)]
    outputs = _run(engine, *requests)
    for request in requests:
        assert _tokens(outputs[request.request_id]) == reference.greedy(list(request.prompt_token_ids), 8)


def test_preemption_changes_no_token(references: References, make_engine: MakeEngine) -> None:
    folder = references("llama").folder
    requests = [Request(f"r{n}", _prompt(8 + n), replace(SAMPLED, max_tokens=30, seed=n)) for n in range(5)]
    roomy = _run(make_engine(folder), *requests)
    tight = make_engine(folder, num_blocks=16)
    outputs = _run(tight, *requests)
    assert tight.load().num_preemptions > 0
    assert {name: _tokens(out) for name, out in outputs.items()} == {
        n: _tokens(out) for n, out in roomy.items()
    }


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("warm", ["none", "prefill", "decode", "both"])
@pytest.mark.parametrize("has_seed", [True, False], ids=["seed", "no-seed"])
def test_hand_over_gives_the_tokens_of_one_worker_at_every_length(
    references: References, make_engine: MakeEngine, sampling: SamplingParams, warm: str, has_seed: bool
) -> None:
    folder = references("qwen3").folder
    alone, prefill, decode = (make_engine(folder) for _ in range(3))
    for engine, side in ((prefill, "prefill"), (decode, "decode")):
        if warm in (side, "both"):
            _run(engine, Request("warm", _prompt(9), replace(GREEDY, max_tokens=1)))
    for length in range(1, 3 * 4 + 2):
        request = Request(f"r{length}", _prompt(length), sampling)
        expected = _tokens(_run(alone, request)[request.request_id])
        assert _hand_over(prefill, decode, request, has_seed) == expected


def _hand_over(prefill: Engine, decode: Engine, request: Request, has_seed: bool) -> list[int]:
    name = request.request_id
    leg = replace(request, sampling=replace(request.sampling, max_tokens=1), hold_kv=True)
    (first,) = _run(prefill, leg)[name]
    plan = decode.plan_import(request)
    assert plan is not None
    held = prefill.held(name)
    decode.write_blocks(plan.block_ids, prefill.read_blocks(held.block_ids[plan.first_block :]))
    seed = SeedToken(first.token_id, first.logprobs) if has_seed else None
    outputs = [*decode.commit_import(name, seed).outputs, *_finish(decode).get(name, [])]
    assert prefill.release_held(name)
    return _tokens(outputs)


def test_written_blocks_are_read_back_bit_for_bit(references: References, make_engine: MakeEngine) -> None:
    for dtype in ("float32", "bfloat16"):
        source, target = (make_engine(references("llama").folder, dtype=dtype) for _ in range(2))
        _run(source, Request("r", _prompt(11), replace(GREEDY, max_tokens=1), hold_kv=True))
        data = source.read_blocks(source.held("r").block_ids)
        assert len(data) == 3 * source.layout.block_bytes
        target.write_blocks([5, 60, 2], data)
        assert target.read_blocks([5, 60, 2]) == data
        assert target.read_blocks([60]) == source.read_blocks(source.held("r").block_ids[1:2])


def test_a_seeded_request_draws_the_same_tokens_in_any_company(
    references: References, make_engine: MakeEngine
) -> None:
    engine = make_engine(references("llama").folder, num_blocks=200)
    request = Request("seeded", _prompt(13), replace(SAMPLED, max_tokens=20))
    alone = _tokens(_run(engine, request)["seeded"])
    others = [Request(f"o{n}", _prompt(n), replace(SAMPLED, seed=None)) for n in range(1, 20, 3)]
    assert _tokens(_run(engine, *others, request)["seeded"]) == alone
    different = _run(engine, replace(request, sampling=replace(SAMPLED, max_tokens=20, seed=12)))
    assert _tokens(different["seeded"]) != alone


def test_logprobs_are_those_of_the_model(references: References, make_engine: MakeEngine) -> None:
    reference = references("qwen2")
    sampling = replace(SAMPLED, num_logprobs=3)
    outputs = _run(make_engine(reference.folder), Request("r", _prompt(6), sampling))["r"]
    tokens = list(_prompt(6))
    for output in outputs:
        expected = reference.logits(tokens)[-1].log_softmax(-1)
        assert output.logprobs is not None
        assert output.logprobs.sampled == pytest.approx(float(expected[output.token_id]), abs=1e-4)
        assert [token for token, _ in output.logprobs.top] == expected.topk(3).indices.tolist()
        assert [value for _, value in output.logprobs.top] == pytest.approx(
            expected.topk(3).values.tolist(), abs=1e-4
        )
        tokens.append(output.token_id)


def test_random_weights_need_only_a_config_and_depend_on_the_seed(
    references: References, make_engine: MakeEngine, tmp_path: Path
) -> None:
    config = (references("llama-3.1").folder / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"vocab_size": 99', '"vocab_size": 150000'))
    request = Request("r", (149_999, 1, 2), GREEDY)
    runs = [
        _tokens(_run(make_engine(tmp_path, random_weights=True, seed=seed), request)["r"])
        for seed in (1, 1, 2)
    ]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
