"""A peer's own environment below the cache, made once: its dependencies never meet ours or another's."""

import subprocess
import sys
from pathlib import Path

from tandem_bench.paths import CACHE
from tandem_bench.router.peers import Peer

INSTALL_SECONDS = 900


class AbsentError(Exception):
    """This peer cannot be measured here; the message says why."""


def programs(peer: Peer, cache: Path = CACHE) -> Path:
    """The folder with the peer's `python`; installs it first if need be. Raises AbsentError."""
    if not peer.requirement:
        return Path(sys.executable).parent
    if sys.version_info < peer.minimum_python:
        raise AbsentError("it needs Python {}.{}".format(*peer.minimum_python))
    package = peer.requirement.split("[")[0].split("=")[0].split(" ")[0]
    folder = cache / "peers" / package
    mark = folder / "installed"
    if not mark.exists() or mark.read_text() != peer.requirement:
        _install(peer.requirement, folder)
        mark.write_text(peer.requirement)
    return folder / "bin"


def _install(requirement: str, folder: Path) -> None:
    steps = (
        [sys.executable, "-m", "venv", str(folder)],
        [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", requirement],
    )
    for step in steps:
        try:
            done = subprocess.run(step, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise AbsentError(f"{requirement} was not installed within {INSTALL_SECONDS} s") from None
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise AbsentError(f"{requirement} cannot be installed: {' '.join(last)}")
