"""What the router is told when it starts."""

from dataclasses import dataclass, field
from pathlib import Path

from tandem_wire.router_settings import RouterSettings

ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - in a pod nobody else decides who may connect


@dataclass(frozen=True, slots=True)
class RouterConfig:
    """Times in seconds. `slo_ttft`, `slo_tpot` None: no objective of that kind.

    `model`: the model of workers whose discovery does not name one, known even while no worker is there.
    `shared`: other processes of this router listen on the same port.
    """

    discovery: str
    hosts: tuple[str, ...] = (ANY_ADDRESS,)
    port: int = 8000
    model: str = ""
    service: str = ""
    slo_ttft: float | None = None
    slo_tpot: float | None = None
    request_timeout: float = 600.0
    max_body_bytes: int = 16 * 2**20
    max_in_flight: int = 2048
    drain_timeout: float = 30.0
    settings: RouterSettings = field(default_factory=RouterSettings)
    trtllm_auth_key_file: Path | None = None
    api_keys: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    shared: bool = False


def read_secret(file: Path | None) -> str | None:
    """A secret's file without the blanks around it. Raises OSError."""
    return None if file is None else file.read_text(encoding="utf-8").strip()
