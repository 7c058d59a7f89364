"""The source roots are plain folders: `operator/` must never shadow the standard library's `operator`."""

import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parent.parent
ROOTS = ("operator", "router", "worker", "e2e")
MAX_LINES = 400


def _sources() -> list[Path]:
    folders = [REPO / root for root in (*ROOTS, "tests", "models")]
    files = [path for folder in folders for path in folder.rglob("*.py")]
    return [path for path in files if "_pb2" not in path.name and ".venv" not in path.parts]


@pytest.mark.parametrize("root", ROOTS)
def test_a_source_root_is_no_package(root: str) -> None:
    assert not (REPO / root / "__init__.py").exists()


def test_the_standard_librarys_operator_wins_from_the_repository_root() -> None:
    code = "import operator, collections; print(operator.__file__)"
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True, timeout=30
    )
    assert str(REPO) not in out.stdout


def test_no_test_folder_is_a_package() -> None:
    assert list((REPO / "tests").rglob("__init__.py")) == []


def test_no_file_is_longer_than_the_cap() -> None:
    long = {str(path.relative_to(REPO)): count for path in _sources() if (count := _lines(path)) > MAX_LINES}
    assert long == {}


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())
