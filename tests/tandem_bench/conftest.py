"""The native programs, built once into a temporary cache."""

import shutil
from pathlib import Path

import pytest

from tandem_bench.native_build import build


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    if shutil.which("gcc") is None and shutil.which("cc") is None:
        pytest.skip("no C compiler")
    cache = tmp_path_factory.mktemp("bench")
    return {name: build(name, cache) for name in ("mock_engine", "load_generator")}
