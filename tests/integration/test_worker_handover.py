"""A prompt computed on one worker and continued on another gives the tokens of one worker alone."""

import asyncio
from typing import Any

import pytest

BLOCK = 4
LENGTHS = range(1, 3 * BLOCK + 2)
ENGINE = {"block_size": BLOCK, "max_batched_tokens": 16}
ASK = {"do_remote_decode": True}
GREEDY: dict[str, Any] = {"temperature": 0}
SEEDED: dict[str, Any] = {"temperature": 1.3, "seed": 11, "top_p": 0.95, "repetition_penalty": 1.2}


def _prompt(length: int, salt: int) -> list[int]:
    return [(17 * salt + 7 * i * i + i) % 250 for i in range(length)]


async def _hand_over(prefill: Any, decode: Any, **body: Any) -> tuple[Any, Any]:
    """Both legs as a router sends them; the answers of both."""
    first = await prefill.complete(**(body | {"max_tokens": 1}), kv_transfer_params=ASK)
    return first, await decode.complete(**body, kv_transfer_params=first["kv_transfer_params"])


async def _is_clean(*workers: Any) -> None:
    for worker in workers:
        await worker.until(lambda it: it.engine.load.kv_blocks_used == 0 and len(it.leases) == 0)


def _tokens(answer: Any) -> tuple[Any, Any, Any]:
    (choice,) = answer["choices"]
    return choice["text"], choice["logprobs"]["tokens"], choice["finish_reason"]


def _logprobs(answer: Any) -> list[float]:
    values: list[float] = answer["choices"][0]["logprobs"]["token_logprobs"]
    return values


@pytest.mark.parametrize("sampling", [GREEDY, SEEDED], ids=["greedy", "seeded"])
@pytest.mark.parametrize("cached_at", ["nowhere", "prefill", "decode", "both"])
async def test_tokens_are_those_of_one_worker(
    start_worker: Any, sampling: dict[str, Any], cached_at: str
) -> None:
    alone = await start_worker(engine=ENGINE)
    prefill = await start_worker(role="prefill", engine=ENGINE)
    decode = await start_worker(role="decode", engine=ENGINE)
    for length in LENGTHS:
        prompt = _prompt(length, salt=length)
        body = {"prompt": prompt, "max_tokens": 9, "ignore_eos": True, "logprobs": 3, **sampling}
        expected = await alone.complete(**body)
        for worker in (prefill, decode):
            if cached_at in ("both", worker.worker.role):
                await worker.complete(prompt=prompt[: max(1, length - 1)], max_tokens=1)
        first, answer = await _hand_over(prefill, decode, **body)
        assert _tokens(answer) == _tokens(expected), length
        assert _logprobs(answer) == pytest.approx(_logprobs(expected), abs=1e-5)
        assert _logprobs(answer)[:1] == _logprobs(first)
        if cached_at in ("nowhere", "decode"):
            assert _logprobs(answer)[:1] == _logprobs(expected)[:1]
        assert answer["usage"] == first["usage"] | {"completion_tokens": 9, "total_tokens": length + 9}
        await _is_clean(prefill, decode)
    assert await prefill.metric("tandem_worker_kv_leases_ended_total", reason="pulled") == len(LENGTHS)
    assert await decode.metric("tandem_worker_kv_transfer_seconds_count", direction="in") == len(LENGTHS)
    for worker in (prefill, decode):
        num_hits = await worker.metric("tandem_worker_prefix_hit_tokens_total")
        assert (num_hits > 0) == (cached_at in ("both", worker.worker.role))


async def test_only_blocks_that_are_missing_move(start_worker: Any) -> None:
    prefill, decode = await start_worker(engine=ENGINE), await start_worker(engine=ENGINE)
    prompt = _prompt(4 * BLOCK + 2, salt=1)
    await decode.complete(prompt=prompt[: 3 * BLOCK], max_tokens=1)
    await _hand_over(prefill, decode, prompt=prompt, max_tokens=3)
    block_bytes = decode.worker.layout.block_bytes
    moved = await decode.metric("tandem_worker_kv_transfer_bytes_total", direction="in")
    assert moved == 2 * block_bytes
    assert await prefill.metric("tandem_worker_kv_transfer_bytes_total", direction="out") == moved
    assert await decode.metric("tandem_worker_prefix_hit_tokens_total") == 3 * BLOCK


async def test_a_long_prompt_moves_in_many_chunks(start_worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One block a chunk, so that 23 blocks take several calls of the engine on both sides."""
    monkeypatch.setattr("tandem_worker.transfer.chunks.CHUNK_BYTES", 1)
    prefill, decode = await start_worker(engine=ENGINE), await start_worker(engine=ENGINE)
    body = {"prompt": _prompt(90, salt=3), "max_tokens": 6, "ignore_eos": True, "logprobs": 0}
    expected = await prefill.complete(**body)
    assert _tokens((await _hand_over(prefill, decode, **body))[1]) == _tokens(expected)
    moved = await decode.metric("tandem_worker_kv_transfer_bytes_total", direction="in")
    assert moved == 23 * decode.worker.layout.block_bytes


async def test_usage_tells_what_the_prefill_worker_had_cached(start_worker: Any) -> None:
    prefill, decode = await start_worker(engine=ENGINE), await start_worker(engine=ENGINE)
    prompt = _prompt(3 * BLOCK, salt=2)
    _, fresh = await _hand_over(prefill, decode, prompt=prompt, max_tokens=3)
    _, again = await _hand_over(prefill, decode, prompt=prompt, max_tokens=3)
    assert fresh["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}
    assert again["usage"]["prompt_tokens_details"] == {"cached_tokens": 2 * BLOCK}


async def test_the_params_are_those_of_the_contract(start_worker: Any) -> None:
    prefill = await start_worker(engine=ENGINE, advertise_host="10.1.2.3", lease_ttl=12.0)
    answer = await prefill.complete(prompt=_prompt(6, 3), kv_transfer_params=ASK, logprobs=2)
    params = answer["kv_transfer_params"]
    assert list(params) == [
        *("do_remote_prefill", "do_remote_decode", "remote_block_ids", "remote_engine_id"),
        *("remote_request_id", "remote_host", "remote_port", "tp_size", "remote_num_tokens"),
        *("remote_blocks_expiry_time", "transfer_mode", "remote_prefill_cached_tokens"),
        *("first_token_ids", "first_token_logprobs"),
    ]
    assert (params["do_remote_prefill"], params["do_remote_decode"]) == (True, False)
    assert [len(ids) for ids in params["remote_block_ids"]] == [2]
    assert params["remote_engine_id"] == prefill.worker.engine_id
    assert params["remote_request_id"].startswith(answer["id"])
    assert (params["remote_host"], params["remote_port"]) == ("10.1.2.3", prefill.running.kv_port)
    assert params["remote_num_tokens"] == 6
    assert params["remote_blocks_expiry_time"] == pytest.approx(answer["created"] + 12, abs=3)
    assert len(params["first_token_ids"]) == 1
    (logprobs,) = params["first_token_logprobs"]
    assert (
        logprobs["sampled"] == logprobs["top"][0][1] == answer["choices"][0]["logprobs"]["token_logprobs"][0]
    )
    assert len(logprobs["top"]) == 2


@pytest.mark.parametrize("max_tokens", [1, 2])
async def test_the_first_token_may_be_the_last(start_worker: Any, max_tokens: int) -> None:
    prefill, decode = await start_worker(engine=ENGINE), await start_worker(engine=ENGINE)
    body = {"prompt": _prompt(7, 4), "max_tokens": max_tokens, "ignore_eos": True, "logprobs": 0}
    expected = await prefill.complete(**body)
    _, answer = await _hand_over(prefill, decode, **body)
    assert _tokens(answer) == _tokens(expected)
    await _is_clean(prefill, decode)


async def test_a_prefill_leg_that_stops_says_so_and_keeps_its_kv(start_worker: Any) -> None:
    prefill, decode = await start_worker(engine=ENGINE), await start_worker(engine=ENGINE)
    body = {"prompt": _prompt(7, 4), "max_tokens": 20, "logprobs": 0}
    token = (await prefill.complete(**body, kv_transfer_params=ASK))["kv_transfer_params"]["first_token_ids"]
    first, answer = await _hand_over(prefill, decode, **body, stop_token_ids=token)
    for leg in (first, answer):
        assert leg["choices"][0]["finish_reason"] == "stop"
        assert leg["choices"][0]["stop_reason"] == token[0]
        assert leg["usage"]["completion_tokens"] == 1
        assert leg["choices"][0]["text"] == ""


async def test_a_prefill_leg_makes_one_token_whatever_it_is_asked(start_worker: Any) -> None:
    prefill = await start_worker(engine=ENGINE)
    answer = await prefill.complete(prompt=_prompt(9, 5), max_tokens=50, kv_transfer_params=ASK)
    assert answer["usage"]["completion_tokens"] == 1


async def test_chat_and_streams_go_through_too(start_worker: Any) -> None:
    prefill, decode = await start_worker(engine=ENGINE), await start_worker(engine=ENGINE)
    expected = await prefill.chat("how are you?", max_tokens=12, ignore_eos=True, stop="zzz")
    first = await prefill.chat("how are you?", max_tokens=1, kv_transfer_params=ASK)
    _, *chunks, _ = await decode.events(
        "/v1/chat/completions",
        messages=[{"role": "user", "content": "how are you?"}],
        max_tokens=12,
        ignore_eos=True,
        stop="zzz",
        kv_transfer_params=first["kv_transfer_params"],
    )
    text = "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks)
    assert text == expected["choices"][0]["message"]["content"]
    assert first["choices"][0]["finish_reason"] == "length"


async def test_without_a_first_token_the_decode_worker_samples_it(start_worker: Any) -> None:
    prefill, decode = await start_worker(engine=ENGINE), await start_worker(engine=ENGINE)
    for length in (1, BLOCK, BLOCK + 1):
        body = {"prompt": _prompt(length, 6), "max_tokens": 6, "ignore_eos": True, "logprobs": 0, **SEEDED}
        expected = await prefill.complete(**body)
        first = await prefill.complete(**(body | {"max_tokens": 1}), kv_transfer_params=ASK)
        params = first["kv_transfer_params"]
        del params["first_token_ids"], params["first_token_logprobs"]
        assert _tokens(await decode.complete(**body, kv_transfer_params=params)) == _tokens(expected)


async def test_a_mixed_worker_hands_over_to_itself(start_worker: Any) -> None:
    worker = await start_worker(engine=ENGINE)
    body = {"prompt": _prompt(10, 7), "max_tokens": 6, "ignore_eos": True, "logprobs": 0}
    expected = await worker.complete(**body)
    assert _tokens((await _hand_over(worker, worker, **body))[1]) == _tokens(expected)


async def test_many_hand_overs_at_once(start_worker: Any) -> None:
    engine = ENGINE | {"num_blocks": 40, "max_num_seqs": 4}
    alone = await start_worker(engine=ENGINE)
    prefill = await start_worker(role="prefill", engine=engine)
    decode = await start_worker(role="decode", engine=engine)
    bodies = [
        {"prompt": _prompt(3 + i % 11, salt=i), "max_tokens": 8, "ignore_eos": True, "logprobs": 0, **SEEDED}
        for i in range(24)
    ]
    expected = [await alone.complete(**body) for body in bodies]
    legs = await asyncio.gather(*(_hand_over(prefill, decode, **body) for body in bodies))
    assert [_tokens(answer) for _, answer in legs] == [_tokens(answer) for answer in expected]
    await _is_clean(prefill, decode)
    for worker in (prefill, decode):
        await worker.worker.engine.call(lambda engine: engine.check_integrity())
