"""Builds the C programs of `native/` into the cache, once for each state of their sources."""

import hashlib
import shutil
import subprocess
from pathlib import Path

from tandem_bench.paths import CACHE, NATIVE

FLAGS = ("-std=gnu11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror")
BUILD_SECONDS = 120


class BuildError(Exception):
    """The compiler is missing or refused; the message says which and why."""


def build(program: str, cache: Path = CACHE) -> Path:
    """The executable of `native/<program>` and `native/common`. Raises BuildError."""
    sources = sorted([*(NATIVE / "common").iterdir(), *(NATIVE / program).iterdir()])
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    target = cache / "bin" / f"{program}-{digest[:12]}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        _compile([path for path in sources if path.suffix == ".c"], target)
    return target


def _compile(sources: list[Path], target: Path) -> None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise BuildError("a C compiler is needed: install gcc (Debian: apt-get install gcc libc6-dev)")
    unfinished = target.with_suffix(".new")
    command = [compiler, *FLAGS, "-o", str(unfinished), *map(str, sources)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False)
    if done.returncode:
        raise BuildError(f"{compiler} failed:\n{done.stderr}")
    unfinished.replace(target)
