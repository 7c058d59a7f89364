"""The endpoints file: which workers the router may use."""

import json
from collections.abc import Iterable
from pathlib import Path

from tandem_operator.desired import names
from tandem_operator.local.pods import ProcessSpec


def document(workers: Iterable[tuple[ProcessSpec, bool]], model: str) -> str:
    """The file's content for workers and whether each is ready."""
    endpoints = [
        {
            "name": spec.name,
            "address": spec.address,
            "port": spec.ports["http"],
            "role": spec.labels[names.ROLE],
            "pool": spec.labels[names.POOL],
            "engine": spec.labels[names.ENGINE],
            "model": model,
            "revision": spec.labels[names.REVISION],
            "ready": ready,
            "kv_port": spec.ports.get("kv", 0),
            "bootstrap_port": spec.ports.get("bootstrap", 0),
        }
        for spec, ready in workers
    ]
    return json.dumps({"endpoints": endpoints}, indent=1)


def write(path: Path, content: str) -> None:
    """Replaces the file at once: a reader sees the old content or the new."""
    draft = path.with_suffix(".tmp")
    draft.write_text(content)
    draft.replace(path)
