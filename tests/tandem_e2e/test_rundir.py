import tempfile
from pathlib import Path

import pytest

from tandem_e2e import rundir


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of runs and control groups, away from the machine's."""
    for name in ("tmp", "cgroup/cpu", "cgroup/memory"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(rundir, "CGROUPS", tmp_path / "cgroup")
    return tmp_path


def test_a_run_leaves_neither_folder_nor_control_groups(places: Path) -> None:
    with rundir.fresh() as folder:
        (folder / "pki").mkdir()
        (places / "cgroup/cpu" / folder.name / "kubepods/burstable").mkdir(parents=True)
        assert folder.exists()
    assert not list((places / "tmp").iterdir())
    assert not list((places / "cgroup/cpu").iterdir())


def test_remains_of_a_killed_run_are_swept(places: Path) -> None:
    dead = places / "tmp/tandem-e2e-dead"
    dead.mkdir()
    (places / "cgroup/memory/tandem-e2e-dead/kubepods").mkdir(parents=True)
    (places / "cgroup/memory/tandem-e2e-folderless").mkdir()
    elsewhere = places / "cgroup/memory/tandem-e2e-elsewhere/kubepods"
    elsewhere.mkdir(parents=True)
    (elsewhere / "cgroup.procs").write_text("4711\n")
    rundir.sweep()
    assert not dead.exists()
    assert [group.name for group in (places / "cgroup/memory").iterdir()] == ["tandem-e2e-elsewhere"]


def test_a_run_in_progress_is_left_alone(places: Path) -> None:
    with rundir.fresh() as folder:
        group = places / "cgroup/cpu" / folder.name / "kubepods/besteffort"
        group.mkdir(parents=True)
        rundir.sweep()
        assert (folder / rundir.LOCK).exists()
        assert group.exists()
