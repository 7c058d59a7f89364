"""What a worker process is told at its start."""

from dataclasses import dataclass
from enum import StrEnum

from tandem_worker.config import EngineConfig


class Role(StrEnum):
    PREFILL = "prefill"
    DECODE = "decode"
    MIXED = "mixed"


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Addresses are where to listen, except `advertise_host`: where other workers reach the KV service.

    Port 0 takes a free one. Times are seconds. `service`, `pool`, `revision` only name the worker to others.
    `max_waiting` bounds the requests that wait for a place in the batch. `threads` None: torch decides.
    """

    engine: EngineConfig
    model_name: str
    role: Role = Role.MIXED
    host: str = "127.0.0.1"
    port: int = 8100
    kv_host: str = "127.0.0.1"
    kv_port: int = 8200
    advertise_host: str = "127.0.0.1"
    lease_ttl: float = 30.0
    drain_timeout: float = 60.0
    service: str = ""
    pool: str = ""
    revision: str = ""
    max_waiting: int = 256
    threads: int | None = None
