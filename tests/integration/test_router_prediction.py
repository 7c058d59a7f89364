"""The router learns its workers' speed from what it serves, and tells how well it predicts."""

import asyncio
import re
from typing import Any

import aiohttp

from tandem_sim.engines.settings import Settings
from tandem_sim.fleet import fleet, pair

SLOW = Settings(prefill_seconds=0.03, token_seconds=0.005)


async def ask(session: aiohttp.ClientSession, url: str, words: int) -> str:
    body: dict[str, Any] = {"model": "fake", "prompt": "a word " * words, "max_tokens": 8, "stream": True}
    async with session.post(f"{url}/v1/completions", json=body) as response:
        assert response.status == 200
        await response.read()
        return response.headers["x-tandem-path"]


def series(exposition: str, name: str) -> dict[str, float]:
    """Labels as written -> value."""
    found = re.findall(rf"^{name}\{{(.*)\}} (\S+)$", exposition, re.MULTILINE)
    return {labels: float(value) for labels, value in found}


async def test_errors_and_break_even_are_told_once_requests_were_served() -> None:
    async with fleet(*pair(SLOW)) as fakes, aiohttp.ClientSession() as session, asyncio.timeout(30):
        paths = [await ask(session, fakes.url, 400) for _ in range(12)]
        async with session.get(f"{fakes.url}/metrics") as response:
            told = await response.text()
    errors = series(told, "tandem_router_prediction_error_ratio")
    assert {re.findall('objective="(.*?)"', labels)[0] for labels in errors} == {"ttft", "tpot"}
    assert all(error < 1 for error in errors.values())
    ((labels, tokens),) = series(told, "tandem_router_break_even_tokens").items()
    assert 'prefill_pool="prefill"' in labels
    assert tokens > 0
    assert paths[:8] == ["disaggregated"] * 8, "while nothing is known, prompts are handed over"
