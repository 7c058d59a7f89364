"""A process's first step pays for what torch sets up lazily: no request should wait for it."""

from tandem_worker.engine import Engine
from tandem_worker.request import Request, SamplingParams, SeedToken

_ID = "warm-up"
_PROMPT = (0, 0, 0, 0)
_SAMPLING = SamplingParams(max_tokens=2, temperature=1.0, top_p=0.9, seed=0, num_logprobs=0, ignore_eos=True)


def warm_up(engine: Engine) -> None:
    """Runs a prompt, hands its KV over to the same engine and goes on there. Leaves no block in use."""
    prompt = _PROMPT[: max(engine.max_model_len - _SAMPLING.max_tokens, 1)]
    engine.add(Request(_ID, prompt, _SAMPLING, hold_kv=True))
    _run(engine)
    block_ids = engine.held(_ID).block_ids
    engine.release_held(_ID)
    plan = engine.plan_import(Request(_ID, prompt, _SAMPLING))
    if plan is not None:
        engine.write_blocks(plan.block_ids, engine.read_blocks(block_ids[plan.first_block :]))
        engine.commit_import(_ID, SeedToken(0))
        _run(engine)


def _run(engine: Engine) -> None:
    while engine.has_work():
        engine.step()
