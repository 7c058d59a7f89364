"""The Dockerfile, as far as it can be checked without a Docker daemon."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tandem_e2e.prepare.image import TANDEM
from tandem_operator.images import DISTRIBUTION, Images

ROOT = Path(__file__).parents[1]
LINES = (ROOT / "Dockerfile").read_text().splitlines()
TARGETS = {
    "operator": "tandem_operator.operate",
    "router": "tandem_router.server",
    "worker": "tandem_worker.process",
}


def arguments(instruction: str) -> list[str]:
    return [line.split(maxsplit=1)[1] for line in LINES if line.startswith(f"{instruction} ")]


def copied() -> list[str]:
    """Paths of the build context that are copied into an image."""
    return [source for copy in arguments("COPY") if "--from" not in copy for source in copy.split()[:-1]]


def test_targets_and_default_images_go_together() -> None:
    stages = {stage.split(" AS ")[1] for stage in arguments("FROM")}
    assert stages == {"wheel", "base", *TARGETS}
    assert Images().router.startswith("tandem-router:")
    assert Images().native.startswith("tandem-worker:")


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied()
    assert set(copied()) <= allowed
    assert all((ROOT / source).exists() for source in copied())


def test_every_packaged_folder_is_copied() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert all(any(Path(package).is_relative_to(source) for source in copied()) for package in packages)


def test_pods_of_the_end_to_end_run_get_the_same_surroundings() -> None:
    environment = [value for line in arguments("ENV") for value in line.split()]
    assert [value for value in TANDEM["Env"] if not value.startswith("PATH=")] == environment
    assert [TANDEM["WorkingDir"]] == arguments("WORKDIR")[1:]
    assert re.findall(r'"(\w+)"', arguments("ENTRYPOINT")[0]) == TANDEM["Entrypoint"]
    assert set(arguments("USER")) == {TANDEM["User"]}
    assert len(arguments("USER")) == len(TARGETS)


def closure(extra: str) -> set[str]:
    """Names of the distributions that `pip install tandem-serve[extra]` brings."""
    names: set[str] = set()
    waiting = [Requirement(f"{DISTRIBUTION}[{extra}]")]
    while waiting:
        wanted = waiting.pop()
        names.add(canonicalize_name(wanted.name))
        for line in requires(wanted.name) or ():
            needed = Requirement(line)
            applies = any(
                needed.marker is None or needed.marker.evaluate({"extra": choice})
                for choice in (wanted.extras or {""})
            )
            if applies and canonicalize_name(needed.name) not in names:
                waiting.append(needed)
    return names


def foreign_modules(extra: str) -> set[str]:
    """Top-level modules that are installed here but not in the image of that extra."""
    brought = closure(extra)
    inside: set[str] = set()
    outside: set[str] = set()
    for distribution in distributions():
        files = {
            file.parts[0].removesuffix(".py") for file in distribution.files or () if file.suffix == ".py"
        }
        name = canonicalize_name(distribution.metadata["Name"])
        (inside if name in brought else outside).update(files)
    return outside - inside


@pytest.mark.parametrize("extra", TARGETS)
def test_extra_of_each_target_is_enough(extra: str) -> None:
    denied = foreign_modules(extra)
    assert "pytest" in denied
    assert ("torch" in denied) == (extra != "worker")
    program = f"""
import importlib, sys
denied = {denied!r}
class Without:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in denied else self.finder.find_spec(name, path, target)
sys.meta_path[:] = map(Without, sys.meta_path)
importlib.import_module({TARGETS[extra]!r})
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=50
    )
    assert done.returncode == 0, done.stderr
