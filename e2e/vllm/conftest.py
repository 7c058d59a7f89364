"""The engines and the router, started once for all tests, and what the tests ask them with."""

import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from openai import OpenAI

from tandem_vllm import client, environment
from tandem_vllm.stack import BEHIND_ROUTER, ENGINES, Stack


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    with _running(request, "nixl", ENGINES, 8000) as stack:
        yield stack


@pytest.fixture(scope="module")
def pushing(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """A pair whose prefill engine writes KV instead of keeping it."""
    with _running(request, "nixl-push", BEHIND_ROUTER, 8001) as stack:
        yield stack


@contextmanager
def _running(
    request: pytest.FixtureRequest, connector: str, engines: Sequence[str], port: int
) -> Iterator[Stack]:
    if not environment.is_current():
        pytest.fail(f"{environment.VENV.name} is missing or out of date: run `make e2e-vllm`", pytrace=False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="tandem-vllm-"))
    stack = Stack(folder, connector, engines, port)
    try:
        stack.start()
        yield stack
    finally:
        stack.close()
        if request.session.testsfailed:
            print(f"\nlogs: {folder}")
        else:
            shutil.rmtree(folder)


@pytest.fixture(scope="session")
def router(stack: Stack) -> Iterator[OpenAI]:
    with client.connect(stack.url("router")) as connected:
        yield connected


@pytest.fixture(scope="session")
def alone(stack: Stack) -> Iterator[OpenAI]:
    """An engine that serves whole requests: its text is what every hand-over has to give."""
    with client.connect(stack.url("alone")) as connected:
        yield connected
