"""The text of /metrics: of this process, or of all processes of a router that has several."""

import os

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""The folder where prometheus_client keeps the values of processes that count together."""


def exposition(registry: CollectorRegistry) -> bytes:
    folder = os.environ.get(SHARED)
    if folder is None:
        return generate_latest(registry)
    whole = CollectorRegistry()
    MultiProcessCollector(whole, folder)
    return generate_latest(whole)
