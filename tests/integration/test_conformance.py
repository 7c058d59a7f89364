"""docs/conformance.md says what is so: every feature, with every engine, on both paths.

`make conformance` writes it anew.
"""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import aiohttp
import pytest

from tandem_router.server import listening, new_runtime, publisher
from tandem_router.types import Endpoint, Role
from tandem_sim.conformance.features import CHAT, FEATURES, TEXT, Feature, body_of
from tandem_sim.conformance.probe import ask, verdict
from tandem_sim.conformance.table import read, render
from tandem_sim.engines.settings import Protocol, Settings
from tandem_sim.engines.text import EOS
from tandem_sim.fleet import CONFIG, ENGINE_OF, fleet, pair
from tandem_wire.router_settings import Disaggregation, RouterSettings

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"
SIMULATED: tuple[Protocol, ...] = tuple(name for name in get_args(Protocol) if name != "native")
WORDS = "a word " * 300
SHORT = "the quick brown fox"
ALWAYS = replace(CONFIG, settings=RouterSettings(disaggregation=Disaggregation(mode="always")))
ANY_BYTE = {"stop_token_ids": list(range(256))}


def nothing_seen(_feature: Feature) -> None:
    """Real workers do not tell what they were sent."""


async def look(
    engine: str,
    alone: str,
    handed: str,
    prompt: str,
    ending: dict[str, Any],
    arrived: Callable[[Feature], None] = nothing_seen,
) -> None:
    """Asks both services for every feature; compares with the page, or writes its column."""
    found = {}
    async with aiohttp.ClientSession() as session:
        for feature in FEATURES:
            said = f"{prompt} {EOS} ." if feature.ends_at_once and not ending else prompt
            body = body_of(feature, "tiny" if engine == "native" else "fake", said)
            body |= ending if feature.ends_at_once else {}
            seen = [await ask(session, url, feature, body) for url in (alone, handed)]
            found[feature.name] = verdict(feature, said, *seen)
            arrived(feature)
    if os.environ.get("TANDEM_WRITE_CONFORMANCE"):
        old = read(PAGE.read_text()) if PAGE.exists() else {}
        PAGE.write_text(render({**old, engine: found}))
    assert read(PAGE.read_text())[engine] == found


@pytest.mark.parametrize("protocol", SIMULATED)
async def test_simulated_engines(protocol: Protocol) -> None:
    settings = Settings(protocol=protocol)
    # SGLang's decode workers take no whole requests: a mixed one does.
    more = [settings] if protocol == "sglang" else []
    async with fleet(settings) as alone, fleet(*pair(settings), *more, config=ALWAYS) as handed:

        def arrived(feature: Feature) -> None:
            """The worker that answered was asked for just what the client asked for."""
            if feature.path in (CHAT, TEXT) and not feature.ends_at_once:
                bodies = [
                    e.seen[-1].json() for e in handed.engines if e.seen and e.settings.role != "prefill"
                ]
                asked = {key: value for key, value in feature.more.items() if key != "stream_options"}
                assert any(asked.items() <= body.items() for body in bodies)

        await look(ENGINE_OF[protocol], alone.url, handed.url, WORDS, {}, arrived)


@asynccontextmanager
async def before(*workers: tuple[Role, Any]) -> AsyncIterator[str]:
    """A router in front of native workers: its address."""
    endpoints = [
        Endpoint(role.value, "127.0.0.1", client.running.http_port, role, role.value, "native", "tiny", "1")
        for role, client in workers
    ]
    async with new_runtime(replace(CONFIG, model="tiny")) as runtime, listening(runtime) as port:
        publisher(runtime)(endpoints)
        yield f"http://127.0.0.1:{port}"


async def test_the_native_worker(start_worker: Any) -> None:
    workers = {role: await start_worker(role.value) for role in Role}
    mixed = (Role.MIXED, workers[Role.MIXED])
    pair_of = [(role, workers[role]) for role in (Role.PREFILL, Role.DECODE)]
    async with before(mixed) as alone, before(*pair_of) as handed:
        await look("native", alone, handed, SHORT, ANY_BYTE)


def test_the_page_is_one_that_make_conformance_writes() -> None:
    verdicts = read(PAGE.read_text())
    assert render(verdicts) == PAGE.read_text()
    assert set(verdicts) == {"native", *(ENGINE_OF[protocol] for protocol in SIMULATED)}
    assert all(list(column) == [feature.name for feature in FEATURES] for column in verdicts.values())


@pytest.mark.parametrize("feature", [f for f in FEATURES if f.name in ("n > 1", "batched prompts")])
async def test_no_worker_for_whole_requests_is_said(feature: Feature) -> None:
    """An engine whose workers all hand over does what it can, and says what it cannot."""
    async with fleet(*pair(Settings(protocol="sglang"))) as running, aiohttp.ClientSession() as session:
        seen = await ask(session, running.url, feature, body_of(feature, "fake", WORDS))
        assert (seen.status, seen.path) == (200, "disaggregated")
        refused = replace(feature, more={"prompt_logprobs": 1})
        seen = await ask(session, running.url, refused, body_of(refused, "fake", WORDS))
        assert (seen.status, seen.answer["error"]["code"]) == (400, "needs_whole_worker")
