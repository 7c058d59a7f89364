"""Asks a running service for a feature, and compares what two services make of it."""

import json
from dataclasses import dataclass
from typing import Any

import aiohttp

from tandem_sim.conformance.features import Feature

WORKS, ONE_WORKER, REFUSED = "works", "on one worker", "refused"
_OWN = frozenset(
    {
        "cache_read_input_tokens",
        "created",
        "created_at",
        "disaggregated_params",
        "id",
        "input_tokens",
        "input_tokens_details",
        "item_id",
        "kv_transfer_params",
        "prompt_token_ids",
        "prompt_tokens_details",
        "service_tier",
        "system_fingerprint",
    }
)
"""What differs between two answers to the same request, whoever gives them."""


@dataclass(frozen=True, slots=True)
class Seen:
    """`answer` is a list of events if it was streamed; `path` is empty for a refusal."""

    status: int
    path: str
    answer: Any


async def ask(session: aiohttp.ClientSession, url: str, feature: Feature, body: dict[str, Any]) -> Seen:
    async with session.post(url + feature.path, json=body) as response:
        text = await response.text()
        path = response.headers.get("x-tandem-path", "")
        if response.status != 200 or not feature.streamed:
            return Seen(response.status, path, json.loads(text))
        lines = [line[6:] for line in text.splitlines() if line.startswith("data: {")]
        return Seen(response.status, path, [json.loads(line) for line in lines])


def verdict(feature: Feature, prompt: str, alone: Seen, handed: Seen) -> tuple[str, str]:
    """What the feature does over a hand-over and on one worker. Raises AssertionError if they disagree."""
    if 400 <= alone.status < 500:
        same(feature, alone.status, handed.status)
        return REFUSED, REFUSED
    same(feature, (200, 200), (alone.status, handed.status), handed.answer)
    same(feature, without_own(alone.answer), without_own(handed.answer))
    if not feature.check(handed.answer, prompt):
        raise AssertionError(f"{feature.name}: the answer does not show it: {handed.answer}")
    return WORKS if handed.path == "disaggregated" else ONE_WORKER, WORKS


def same(feature: Feature, expected: Any, got: Any, more: Any = "") -> None:
    if expected != got:
        raise AssertionError(f"{feature.name}: {got} instead of {expected} {more}")


def without_own(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_own(inner) for key, inner in value.items() if key not in _OWN}
    if isinstance(value, list):
        return [without_own(inner) for inner in value]
    return value
