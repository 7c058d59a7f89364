"""The folder of a run. A lock in it tells a run in progress from the remains of one that was killed."""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "tandem-e2e-"
LOCK = "lock"
CGROUPS = Path("/sys/fs/cgroup")


@contextmanager
def fresh() -> Iterator[Path]:
    """A new folder, gone at the end together with the control groups of its name. Sweeps up first."""
    sweep()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    folder.chmod(0o755)
    with (folder / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            remove(folder)


def sweep() -> None:
    """Remove what killed runs left: folders whose lock nobody holds, control groups without a folder."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError), (folder / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(folder)
    for group in _groups("*"):
        if not (Path(tempfile.gettempdir()) / group.name).exists() and not _is_busy(group):
            _remove_group(group)


def remove(folder: Path) -> None:
    """Remove a run's folder and control groups."""
    for group in _groups(folder.name.removeprefix(PREFIX)):
        _remove_group(group)
    shutil.rmtree(folder, ignore_errors=True)


def _groups(name: str) -> list[Path]:
    return [*CGROUPS.glob(f"*/{PREFIX}{name}"), *CGROUPS.glob(f"{PREFIX}{name}")]


def _is_busy(root: Path) -> bool:
    return any(path.read_text().strip() for path in root.glob("**/cgroup.procs"))


def _remove_group(root: Path) -> None:
    for folder in sorted(root.glob("**/"), reverse=True):
        with suppress(OSError):
            folder.rmdir()
