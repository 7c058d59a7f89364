"""What the run is told by its environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
IMAGE = "tandem:e2e"


@dataclass(frozen=True, slots=True)
class Settings:
    """`kubeconfig` None: the run makes its own cluster. `assets`: a folder whose binaries are taken first."""

    cache: Path
    kubeconfig: Path | None
    image: str
    prometheus: str | None
    assets: Path | None
    keep: bool


def from_environment(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read KUBECONFIG with E2E_IMAGE and E2E_PROMETHEUS, KUBEBUILDER_ASSETS, E2E_KEEP.

    A KUBECONFIG counts only together with E2E_IMAGE: a run must not write to somebody's cluster by accident.
    """
    given = "KUBECONFIG" in environ and "E2E_IMAGE" in environ
    assets = environ.get("KUBEBUILDER_ASSETS")
    return Settings(
        cache=Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tandem",
        kubeconfig=Path(environ["KUBECONFIG"]) if given else None,
        image=environ["E2E_IMAGE"] if given else IMAGE,
        prometheus=environ.get("E2E_PROMETHEUS") if given else None,
        assets=Path(assets) if assets else None,
        keep=environ.get("E2E_KEEP") == "1",
    )
