"""Latency profiles: what is known of a model on a GPU before the first request. Some are in `profiles/`.

A file is JSON: `source`, and `profiles`, a list of objects with `model`, `gpu`, `tensor_parallel`, `dtype`,
`kv_bytes_per_token`, and `prefill`, `decode` and `transfer` as in `tandem_perf.latency`, in seconds and bytes
per second.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from tandem_perf.latency import LatencyModel


@dataclass(frozen=True, slots=True)
class Profile:
    """Coefficients of one model on one kind of GPU."""

    model: str
    gpu: str
    tensor_parallel: int
    dtype: str
    kv_bytes_per_token: int
    latency: LatencyModel

    @property
    def name(self) -> str:
        """As settings name it: `qwen3-8b/h200/tp1/bfloat16`."""
        return f"{self.model}/{self.gpu}/tp{self.tensor_parallel}/{self.dtype}"


def shipped() -> tuple[Profile, ...]:
    """The profiles of this package."""
    folder = files("tandem_perf") / "profiles"
    texts = sorted(
        (entry.name, entry.read_text()) for entry in folder.iterdir() if entry.name.endswith(".json")
    )
    return tuple(profile for _, text in texts for profile in parse(text))


def load(reference: str) -> Profile:
    """The profile that a setting names: a shipped one by its name, or the only one in a file, by its path.

    Raises ValueError that says which names there are; OSError for a file that cannot be read.
    """
    if reference.endswith(".json"):
        found = parse(Path(reference).read_text())
        if len(found) != 1:
            raise ValueError(f"{reference} must hold one profile, not {len(found)}")
        return found[0]
    known = {profile.name: profile for profile in shipped()}
    if reference not in known:
        raise ValueError(f"no profile {reference!r}; known: {', '.join(sorted(known))}")
    return known[reference]


def parse(text: str) -> tuple[Profile, ...]:
    """The profiles of a file. Raises ValueError for anything that is none."""
    data = json.loads(text)
    entries = data.get("profiles") if isinstance(data, dict) else None
    if not isinstance(entries, list):
        raise ValueError("a profile file is an object with a list `profiles`")
    return tuple(_profile(entry) for entry in entries)


def dump(source: str, profiles: Iterable[Profile]) -> str:
    """The inverse of `parse`."""
    entries = [
        {
            "model": profile.model,
            "gpu": profile.gpu,
            "tensor_parallel": profile.tensor_parallel,
            "dtype": profile.dtype,
            "kv_bytes_per_token": profile.kv_bytes_per_token,
            **profile.latency.as_dict(),
        }
        for profile in profiles
    ]
    return json.dumps({"source": source, "profiles": entries}, indent=1) + "\n"


def _profile(entry: Any) -> Profile:
    try:
        return Profile(
            model=str(entry["model"]),
            gpu=str(entry["gpu"]),
            tensor_parallel=int(entry["tensor_parallel"]),
            dtype=str(entry["dtype"]),
            kv_bytes_per_token=int(entry["kv_bytes_per_token"]),
            latency=LatencyModel.from_dict(entry),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a latency profile: {error}") from error
