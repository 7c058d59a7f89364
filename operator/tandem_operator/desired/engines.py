"""Engines as data: how a worker of each is started, probed and ended."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tandem_operator.api import Connector, EngineType, Role, WorkerPool
from tandem_operator.desired.names import HTTP_PORT, KV_PORT
from tandem_operator.desired.pods import POD_IP, TMP

MODEL_MOUNT = "/models"
NIXL_PORT = 5600
BOOTSTRAP_PORT = 8998
DRAIN_SECONDS = 60

_KV_ROLES: Mapping[Role, str] = {"prefill": "kv_producer", "decode": "kv_consumer"}
_VLLM_CONNECTORS: Mapping[Connector, str] = {
    "nixl": "NixlConnector",
    "nixl-push": "NixlPushConnector",
    "mooncake": "MooncakeConnector",
}
_TRTLLM_FILE = f"{TMP}/options.yaml"
_TRTLLM_VARIABLE = "TANDEM_TRTLLM_OPTIONS"
# The user has no home and no entry in /etc/passwd; caches go where it may write.
_HOME: Mapping[str, str] = {"HOME": TMP, "USER": "tandem"}


def _no_settings(_pool: WorkerPool) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class Preset:
    """One engine. Paths are HTTP paths on port `http`; times are seconds.

    `connector` is the one that `auto` stands for; `settings` are environment that depends on the pool.
    """

    command: tuple[str, ...]
    arguments: Callable[[WorkerPool], list[str]]
    connector: Connector
    ports: Mapping[str, int]
    live: str
    ready: str
    grace: int
    drain_delay: int = 0
    shared_memory: bool = False
    env: Mapping[str, str] = field(default_factory=dict)
    settings: Callable[[WorkerPool], Mapping[str, str]] = _no_settings


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
    return [model_path(pool), *flags, *_vllm_connector(spec.role, spec.connector)]


def _vllm_connector(role: Role, connector: Connector) -> list[str]:
    """vLLM's side of the hand-over; none for a mixed worker, which serves whole requests."""
    if role not in _KV_ROLES:
        return []
    config = {"kv_connector": _VLLM_CONNECTORS[connector], "kv_role": _KV_ROLES[role]}
    return ["--kv-transfer-config", json.dumps(config)]


def _sglang(pool: WorkerPool) -> list[str]:
    spec = pool.spec
    flags = _flags(
        model_path=model_path(pool),
        served_model_name=spec.model.name,
        host=POD_IP,
        port=HTTP_PORT,
        context_length=spec.model.max_model_len,
    )
    if spec.role not in _KV_ROLES:
        return [*flags, "--enable-metrics"]
    handing_over = _flags(
        disaggregation_mode=spec.role,
        disaggregation_transfer_backend=spec.connector,
        disaggregation_bootstrap_port=BOOTSTRAP_PORT if spec.role == "prefill" else None,
    )
    return [*flags, "--enable-metrics", *handing_over]


def _trtllm(pool: WorkerPool) -> list[str]:
    spec = pool.spec
    limit = spec.model.max_model_len
    flags = ["--served_model_name", spec.model.name, "--host", POD_IP, "--port", str(HTTP_PORT)]
    length = [] if limit is None else ["--max_seq_len", str(limit)]
    return [model_path(pool), *flags, *length, "--extra_llm_api_options", _TRTLLM_FILE]


def _trtllm_options(pool: WorkerPool) -> Mapping[str, str]:
    """TensorRT-LLM takes its side of the hand-over from a file; JSON is YAML."""
    options: dict[str, Any] = {}
    if pool.spec.role in _KV_ROLES:
        options["cache_transceiver_config"] = {"backend": pool.spec.connector.upper()}
    if pool.spec.role == "prefill":
        options["disable_overlap_scheduler"] = True
    return {_TRTLLM_VARIABLE: json.dumps(options)}


PRESETS: Mapping[EngineType, Preset] = {
    "native": Preset(
        command=("tandem", "worker"),
        arguments=_native,
        connector="native",
        ports={"http": HTTP_PORT, "kv": KV_PORT},
        live="/healthz",
        ready="/readyz",
        grace=DRAIN_SECONDS,
    ),
    "vllm": Preset(
        command=("vllm", "serve"),
        arguments=_vllm,
        connector="nixl",
        ports={"http": HTTP_PORT, "nixl": NIXL_PORT, "bootstrap": BOOTSTRAP_PORT},
        live="/health",
        ready="/health",
        grace=DRAIN_SECONDS + 30,
        # vLLM refuses new requests from the moment it is told to end: the router has to know before.
        drain_delay=5,
        shared_memory=True,
        env={
            "VLLM_NIXL_SIDE_CHANNEL_HOST": POD_IP,
            "VLLM_NIXL_SIDE_CHANNEL_PORT": str(NIXL_PORT),
            "VLLM_MOONCAKE_BOOTSTRAP_PORT": str(BOOTSTRAP_PORT),
            **_HOME,
        },
    ),
    "sglang": Preset(
        command=("python3", "-m", "sglang.launch_server"),
        arguments=_sglang,
        connector="mooncake",
        ports={"http": HTTP_PORT, "bootstrap": BOOTSTRAP_PORT},
        live="/health",
        ready="/health",
        grace=DRAIN_SECONDS + 30,
        drain_delay=5,
        shared_memory=True,
        env=_HOME,
    ),
    "trtllm": Preset(
        command=(
            *("sh", "-c", f'printf %s "${_TRTLLM_VARIABLE}" > {_TRTLLM_FILE}; exec trtllm-serve "$@"'),
            "trtllm-serve",
        ),
        arguments=_trtllm,
        connector="nixl",
        ports={"http": HTTP_PORT},
        live="/health",
        ready="/health",
        grace=DRAIN_SECONDS + 30,
        drain_delay=5,
        shared_memory=True,
        env=_HOME,
        settings=_trtllm_options,
    ),
}
