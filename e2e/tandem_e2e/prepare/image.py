"""Images as `ctr images import` reads them, put together from layers without a Docker daemon."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import IO, Any

from tandem_e2e.prepare.layers import Layer

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What the Dockerfile says of every target; tests/test_dockerfile.py compares the two.
TANDEM: dict[str, Any] = {
    "Env": [PATH, "PYTHONSAFEPATH=1", "PYTHONUNBUFFERED=1"],
    "Entrypoint": ["tandem"],
    "User": "65532:65532",
    "WorkingDir": "/opt/tandem",
}
PAUSE: dict[str, Any] = {"Env": [PATH], "Entrypoint": ["/pause"], "WorkingDir": "/"}


def write(out: IO[bytes], name: str, config: dict[str, Any], layers: list[Layer]) -> None:
    """Write an image in the layout of `docker save` to a stream."""
    described = {
        "architecture": "amd64",
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.digest}" for layer in layers]},
        "history": [{"created_by": layer.path.name} for layer in layers],
    }
    encoded = json.dumps(described).encode()
    config_name = f"{hashlib.sha256(encoded).hexdigest()}.json"
    files = [f"{layer.digest}/layer.tar" for layer in layers]
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": files}]).encode()
    with tarfile.open(fileobj=out, mode="w|") as archive:
        _add(archive, config_name, encoded)
        for file, layer in zip(files, layers, strict=True):
            archive.add(layer.path, arcname=file)
        _add(archive, "manifest.json", manifest)


def pause_layer(binary: Path, rundir: Path) -> Layer:
    """One layer that holds one program, `/pause`."""
    target = rundir / "pause.tar"
    with tarfile.open(target, "w") as archive:
        archive.add(binary, arcname="pause")
    return Layer(target, hashlib.sha256(target.read_bytes()).hexdigest())


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))
