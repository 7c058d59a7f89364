"""The endpoints file: noticed when replaced, ignored when bad."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tandem_router.discovery import parse_source
from tandem_router.discovery.file import FileDiscovery, parse_endpoints
from tandem_router.types import Endpoint

WORKER: dict[str, Any] = {
    "name": "quickstart-prefill-0",
    "address": "127.0.1.2",
    "port": 8100,
    "role": "prefill",
    "pool": "prefill",
    "engine": "native",
    "model": "recall",
    "revision": "5f3c",
    "ready": True,
}


def content(*workers: dict[str, Any]) -> bytes:
    return json.dumps({"endpoints": workers}).encode()


def replace(path: Path, data: bytes) -> None:
    new = path.with_suffix(".new")
    new.write_bytes(data)
    new.replace(path)


@asynccontextmanager
async def watching(path: Path) -> AsyncIterator[asyncio.Queue[Sequence[Endpoint]]]:
    published: asyncio.Queue[Sequence[Endpoint]] = asyncio.Queue()
    task = asyncio.ensure_future(FileDiscovery(path).run(published.put_nowait))
    try:
        yield published
    finally:
        task.cancel()


async def within_a_second(published: asyncio.Queue[Sequence[Endpoint]]) -> list[str]:
    async with asyncio.timeout(1):
        return [endpoint.name for endpoint in await published.get()]


def test_a_worker_is_read_with_all_it_says() -> None:
    (endpoint,) = parse_endpoints(content(WORKER | {"later": "field"}))
    assert {key: getattr(endpoint, key) for key in WORKER} == WORKER


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "Invalid JSON"),
        (b"{}", "endpoints: Field required"),
        (content(WORKER | {"role": "both"}), "endpoints.0.role"),
        (content(WORKER | {"port": "many"}), "endpoints.0.port"),
        (content(WORKER | {"port": 0}), "0 is no port"),
        (content(WORKER | {"engine": "abacus"}), "unknown engine 'abacus'; known: native, vllm"),
        (content(WORKER, WORKER), "same name"),
    ],
)
def test_a_bad_file_is_refused_with_the_place(data: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_endpoints(data)


async def test_replacing_the_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.json"
    replace(path, content(WORKER))
    async with watching(path) as published:
        assert await within_a_second(published) == ["quickstart-prefill-0"]
        replace(path, content(WORKER | {"name": "b"}))
        assert await within_a_second(published) == ["b"]


async def test_a_bad_or_missing_file_keeps_what_was(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "endpoints.json"
    replace(path, content(WORKER))
    async with watching(path) as published:
        await within_a_second(published)
        with caplog.at_level(logging.WARNING):
            replace(path, b'{"endpoints": [')
            with pytest.raises(TimeoutError):
                await within_a_second(published)
            path.unlink()
            with pytest.raises(TimeoutError):
                await within_a_second(published)
        assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
        replace(path, content(WORKER | {"name": "c"}))
        assert await within_a_second(published) == ["c"]


async def test_the_file_may_come_later(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.json"
    async with watching(path) as published:
        await asyncio.sleep(0)
        replace(path, content())
        assert await within_a_second(published) == []


@pytest.mark.parametrize(
    "text", ["", "file:", "dns:x", "kubernetes:", "kubernetes:ns", "kubernetes:ns/", "kubernetes:/s"]
)
def test_what_names_no_source_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"file:PATH or kubernetes:NAMESPACE/SERVICE"):
        parse_source(text, "m")
