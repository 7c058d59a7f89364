"""What the run does, step by step, with the time that each step took."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Steps:
    """Announces steps and appends their times to a file, so that the run's processes share one table."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        print(f"==> {name}", flush=True)
        start = time.monotonic()
        try:
            yield
        except BaseException:
            self._record(name, time.monotonic() - start, "failed")
            raise
        self._record(name, time.monotonic() - start, "ok")

    def skip(self, name: str, reason: str) -> None:
        print(f"==> {name}", flush=True)
        self._record(name, 0.0, f"skipped: {reason}")

    def _record(self, name: str, seconds: float, result: str) -> None:
        print(f"    {result} ({seconds:.1f} s)", flush=True)
        with self._path.open("a") as file:
            file.write(json.dumps({"name": name, "seconds": seconds, "result": result}) + "\n")


def table(path: Path) -> str:
    """The recorded steps, aligned, with their sum."""
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    width = max((len(row["name"]) for row in rows), default=4)
    lines = [f"{row['name']:<{width}}  {row['seconds']:8.1f} s  {row['result']}" for row in rows]
    return "\n".join([*lines, f"{'total':<{width}}  {sum(row['seconds'] for row in rows):8.1f} s"])
