"""Engines as data: how a worker of each is started, probed and ended."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tandem_operator.api import EngineType, Role, WorkerPool
from tandem_operator.desired.names import HTTP_PORT, KV_PORT
from tandem_operator.desired.pods import POD_IP, TMP

MODEL_MOUNT = "/models"
NIXL_PORT = 5600
DRAIN_SECONDS = 60

_KV_ROLES: Mapping[Role, str] = {"prefill": "kv_producer", "decode": "kv_consumer"}


@dataclass(frozen=True, slots=True)
class Preset:
    """One engine. Paths are HTTP paths on port `http`; times are seconds."""

    command: tuple[str, ...]
    arguments: Callable[[WorkerPool], list[str]]
    ports: Mapping[str, int]
    live: str
    ready: str
    grace: int
    drain_delay: int = 0
    shared_memory: bool = False
    env: Mapping[str, str] = field(default_factory=dict)


def model_path(pool: WorkerPool) -> str:
    """Where the container finds the checkpoint."""
    source = pool.spec.model.source
    if source.pvc is None:
        return source.path or ""
    return f"{MODEL_MOUNT}/{source.pvc.path}".rstrip("/")


def _flags(**values: str | int | None) -> list[str]:
    """`--name value` for each value there is."""
    return [part for name, value in values.items() if value is not None for part in (_flag(name), str(value))]


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _native(pool: WorkerPool) -> list[str]:
    spec = pool.spec
    return _flags(
        model=model_path(pool),
        served_model_name=spec.model.name,
        role=spec.role,
        host=POD_IP,
        port=HTTP_PORT,
        kv_host=POD_IP,
        kv_port=KV_PORT,
        max_model_len=spec.model.max_model_len,
        service=spec.service,
        pool=spec.pool,
        revision=spec.revision,
    )


def _vllm(pool: WorkerPool) -> list[str]:
    spec = pool.spec
    flags = _flags(
        served_model_name=spec.model.name,
        host=POD_IP,
        port=HTTP_PORT,
        max_model_len=spec.model.max_model_len,
        shutdown_timeout=DRAIN_SECONDS,
    )
    return [model_path(pool), *flags, *_connector(spec.role)]


def _connector(role: Role) -> list[str]:
    """vLLM's side of the hand-over; none for a mixed worker, which serves whole requests."""
    if role not in _KV_ROLES:
        return []
    return ["--kv-transfer-config", json.dumps({"kv_connector": "NixlConnector", "kv_role": _KV_ROLES[role]})]


PRESETS: Mapping[EngineType, Preset] = {
    "native": Preset(
        command=("tandem", "worker"),
        arguments=_native,
        ports={"http": HTTP_PORT, "kv": KV_PORT},
        live="/healthz",
        ready="/readyz",
        grace=DRAIN_SECONDS,
    ),
    "vllm": Preset(
        command=("vllm", "serve"),
        arguments=_vllm,
        ports={"http": HTTP_PORT, "nixl": NIXL_PORT},
        live="/health",
        ready="/health",
        grace=DRAIN_SECONDS + 30,
        # vLLM refuses new requests from the moment it is told to end: the router has to know before.
        drain_delay=5,
        shared_memory=True,
        env={
            "VLLM_NIXL_SIDE_CHANNEL_HOST": POD_IP,
            "VLLM_NIXL_SIDE_CHANNEL_PORT": str(NIXL_PORT),
            # The user has no home and no entry in /etc/passwd; caches go where it may write.
            "HOME": TMP,
            "USER": "tandem",
        },
    ),
}
