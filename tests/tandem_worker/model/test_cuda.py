"""The same engine on a CUDA device: the tokens of transformers, and KV that fits a worker on a CPU."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from tandem_worker.engine import Engine
from tandem_worker.request import Request, SamplingParams, SeedToken

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
PROMPTS = [tuple((5 * i * i + n) % 99 for i in range(n)) for n in (1, 3, 4, 5, 17, 40)]
SAMPLING = {
    "greedy": SamplingParams(max_tokens=8, temperature=0.0),
    "sampled": SamplingParams(
        max_tokens=8, temperature=0.8, top_p=0.9, top_k=30, seed=3, frequency_penalty=0.2
    ),
}


def _finish(engine: Engine) -> dict[str, list[int]]:
    tokens: dict[str, list[int]] = {}
    while engine.has_work():
        for output in engine.step().outputs:
            tokens.setdefault(output.request_id, []).append(output.token_id)
    engine.check_integrity()
    return tokens


def _run(engine: Engine, sampling: SamplingParams) -> list[list[int]]:
    for i, prompt in enumerate(PROMPTS):
        engine.add(Request(str(i), prompt, sampling))
    tokens = _finish(engine)
    return [tokens[str(i)] for i in range(len(PROMPTS))]


@pytest.mark.parametrize("variant", ["llama-3.1", "qwen2-tied", "qwen3"])
@pytest.mark.parametrize("max_batched_tokens", [8, 2048])
def test_tokens_on_cuda_equal_those_of_transformers(
    references: Callable[[str], Any],
    make_engine: Callable[..., Engine],
    variant: str,
    max_batched_tokens: int,
) -> None:
    reference = references(variant)
    changes = {"max_batched_tokens": max_batched_tokens, "max_num_seqs": 8}
    engine = make_engine(reference.folder, device="cuda", **changes)
    expected = [reference.greedy(list(prompt), 8) for prompt in PROMPTS]
    assert _run(engine, SAMPLING["greedy"]) == expected


def test_draws_on_cuda_equal_those_on_a_cpu(
    references: Callable[[str], Any], make_engine: Callable[..., Engine]
) -> None:
    folder = references("qwen3").folder
    on_cpu, on_cuda = make_engine(folder), make_engine(folder, device="cuda")
    assert _run(on_cuda, SAMPLING["sampled"]) == _run(on_cpu, SAMPLING["sampled"])


def test_a_cuda_worker_hands_over_to_a_cpu_worker(
    references: Callable[[str], Any], make_engine: Callable[..., Engine]
) -> None:
    folder = references("llama").folder
    prefill, decode = make_engine(folder, device="cuda"), make_engine(folder)
    request = Request("r", PROMPTS[-1], SAMPLING["sampled"])
    leg = replace(request, sampling=replace(request.sampling, max_tokens=1), hold_kv=True)
    prefill.add(leg)
    (first,) = _finish(prefill)["r"]
    plan = decode.plan_import(request)
    assert plan is not None
    data = prefill.read_blocks(prefill.held("r").block_ids)
    decode.write_blocks(plan.block_ids, data)
    assert decode.read_blocks(plan.block_ids) == data
    outputs = decode.commit_import("r", SeedToken(first)).outputs
    tokens = [outputs[0].token_id, *_finish(decode)["r"]]
    assert tokens == _run(make_engine(folder), SAMPLING["sampled"])[-1]


def test_auto_is_the_checkpoints_dtype(
    references: Callable[[str], Any], make_engine: Callable[..., Engine]
) -> None:
    engine = make_engine(references("llama").folder, device="auto", dtype="auto")
    assert engine.layout.dtype == "float32"
    half = make_engine(references("llama").folder, device="cuda", dtype="bfloat16", num_blocks=None)
    assert all(len(tokens) == 8 for tokens in _run(half, SAMPLING["greedy"]))
