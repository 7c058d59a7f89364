"""The layers of the test image: Debian's Python, the dependencies, the project. The first two are cached."""

import hashlib
import shutil
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

from tandem_e2e.settings import REPO
from tandem_e2e.shell import run

SITE = Path("usr/local/lib/python3.11/dist-packages")  # where Debian's Python 3.11 looks
EXTRAS = ("operator", "router", "worker")
# What torch brings for compiling extensions and for its own tests: 200 MB that no pod reads.
TRIMMED = ("torch/include", "torch/test", "torch/bin/protoc*", "torch/bin/test_*", "torch/lib/*.a")
LAUNCHER = "#!/usr/bin/python3\nfrom tandem_operator.cli import main\n\nmain()\n"


@dataclass(frozen=True, slots=True)
class Layer:
    """An uncompressed tar of files, as paths from the image's root."""

    path: Path
    digest: str


def base(cache: Path, log: Path) -> Layer:
    """Debian 12 with Python, nothing else."""
    target = cache / "layers" / "base.tar"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".partial.tar")
        excluded = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")]
        options = ("--variant=minbase", "--include=python3", *excluded)
        run("mmdebstrap", *options, "bookworm", partial, timeout=900, log=log)
        partial.rename(target)
    return _digested(target)


def dependencies(cache: Path, log: Path) -> Layer:
    """What pyproject.toml asks for at the versions of constraints.txt, kept until one of the two changes."""
    constraints = REPO / "constraints.txt"
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = sorted({*project["dependencies"], *(line for extra in EXTRAS for line in extras[extra])})
    key = hashlib.sha256("\n".join([*wanted, *TRIMMED, constraints.read_text()]).encode()).hexdigest()[:16]
    target = cache / "layers" / f"dependencies-{key}.tar"
    if not target.exists():
        for old in target.parent.glob("dependencies-*"):
            old.unlink()
        with tempfile.TemporaryDirectory(dir=target.parent) as work:
            pip = (sys.executable, "-m", "pip", "install", "-q", "--target", Path(work) / SITE)
            run(*pip, "-c", constraints, *wanted, timeout=1800, log=log)
            partial = Path(work) / "layer.tar"
            _pack(Path(work), [SITE.parts[0]], partial, TRIMMED)
            partial.rename(target)
    return _digested(target)


def project(rundir: Path, log: Path) -> Layer:
    """The project's own wheel, its launcher and the model that it ships."""
    root = rundir / "project"
    wheels = rundir / "wheels"
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", wheels, REPO, timeout=300, log=log)
    pip = (sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", root / SITE)
    run(*pip, next(wheels.glob("*.whl")), timeout=300, log=log)
    launcher = root / "usr/local/bin/tandem"
    launcher.parent.mkdir(parents=True)
    launcher.write_text(LAUNCHER)
    launcher.chmod(0o755)
    shutil.copytree(REPO / "models", root / "opt/tandem/models")
    target = rundir / "project.tar"
    _pack(root, [path.name for path in root.iterdir()], target)
    return _digested(target)


def _pack(root: Path, names: list[str], target: Path, excluded: tuple[str, ...] = ()) -> None:
    owner = ("--numeric-owner", "--owner=0", "--group=0", "--mode=a+rX")
    without = (f"--exclude=*/{path}" for path in excluded)
    run("tar", "-C", root, *owner, *without, "-cf", target, *names, timeout=600)


def _digested(path: Path) -> Layer:
    noted = path.with_suffix(".sha256")
    if not noted.exists() or noted.stat().st_mtime < path.stat().st_mtime:
        with path.open("rb") as file:
            noted.write_text(hashlib.file_digest(file, "sha256").hexdigest())
    return Layer(path, noted.read_text())
