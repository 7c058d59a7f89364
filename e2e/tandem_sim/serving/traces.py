"""Readers of the public traces' formats, plain or gzipped."""

import csv
import gzip
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any, TextIO

from tandem_sim.serving.calls import Call, Load

_AGENTIC_BLOCK = 64
_MOONCAKE_BLOCK = 512
_MOONCAKE_TICK = 3.0


def read(path: Path, seed: int = 0) -> Load:
    """The trace in a file, whose format shows in its first line. Raises ValueError for others."""
    with _open(path) as file:
        first = file.readline()
    if first.startswith("TIMESTAMP"):
        return azure(path)
    fields = json.loads(first)
    if "input_length" in fields:
        return mooncake(path, Random(seed))
    if "s" in fields and "in" in fields:
        return agentic(path)
    raise ValueError(f"{path} is in none of the formats Azure csv, Mooncake jsonl, agentic jsonl")


def azure(path: Path) -> Load:
    """TIMESTAMP, ContextTokens, GeneratedTokens (Splitwise, ISCA 2024). Nothing is known of prefixes."""
    with _open(path) as file:
        rows = [(_moment(row["TIMESTAMP"]), row) for row in csv.DictReader(file)]
    start = min(moment for moment, _ in rows)
    calls = [
        Call(moment - start, max(1, int(row["ContextTokens"])), max(1, int(row["GeneratedTokens"])))
        for moment, row in rows
    ]
    return Load(tuple(sorted(calls, key=lambda call: call.at)))


def mooncake(path: Path, random: Random) -> Load:
    """timestamp (ms, on a grid of 3 s: spread over it evenly), input_length, output_length, hash_ids."""
    calls = [
        Call(
            row["timestamp"] / 1000 + random.uniform(0, _MOONCAKE_TICK),
            max(1, row["input_length"]),
            max(1, row["output_length"]),
            tuple(row["hash_ids"][: row["input_length"] // _MOONCAKE_BLOCK]),
            _MOONCAKE_BLOCK,
        )
        for row in _lines(path)
    ]
    return Load(tuple(sorted(calls, key=lambda call: call.at)))


def agentic(path: Path) -> Load:
    """Calls of agents' sessions: s, a, in, out, think (seconds after the call before), h (runs of block ids).

    A sub-agent is a session of its own. The first calls of sessions come a second after one another.
    """
    sessions: dict[str, list[Call]] = {}
    for row in _lines(path):
        name = f"{row['s']}/{row.get('a', '')}"
        calls = sessions.setdefault(name, [])
        calls.append(
            Call(
                float(len(sessions) - 1) if not calls else float(row.get("think", 0.0)),
                max(1, row["in"]),
                max(1, row["out"]),
                tuple(hash((row["s"], block)) for block in _runs(row.get("h", ""))),
                _AGENTIC_BLOCK,
                session=name,
            )
        )
    return Load(sessions=tuple(map(tuple, sessions.values())))


def _runs(text: str) -> Iterator[int]:
    for run in filter(None, text.split(",")):
        first, _, last = run.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _moment(text: str) -> float:
    """Seconds; fractions have seven digits, one more than datetime reads."""
    whole, _, fraction = text.partition(".")
    return datetime.fromisoformat(whole).timestamp() + float(f"0.{fraction or 0}")


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with _open(path) as file:
        yield from map(json.loads, filter(str.strip, file))


def _open(path: Path) -> TextIO:
    return gzip.open(path, "rt") if path.suffix == ".gz" else path.open()
