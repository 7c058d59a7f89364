"""The programs of the cluster: their configuration, their processes, their logs."""

import os
import subprocess
from pathlib import Path
from string import Template

from tandem_e2e.prepare.binaries import find
from tandem_e2e.shell import tail

TEMPLATES = Path(__file__).with_name("templates")


class Processes:
    """Starts programs with the flags of their template and ends them in reverse order."""

    def __init__(self, rundir: Path, path: str, values: dict[str, str]) -> None:
        """`path` finds the programs; `values` fill the templates, together with `rundir`."""
        self.path = path
        self._logs = rundir / "logs"
        self._values = values | {"rundir": str(rundir)}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._logs.mkdir()
        configuration = rundir / "config"
        configuration.mkdir()
        for template in TEMPLATES.iterdir():
            (configuration / template.name).write_text(self._filled(template))

    def start(self, name: str) -> None:
        """Start the program of that name."""
        flags = self._filled(TEMPLATES / f"{name}.flags").split()
        with self.log(name).open("ab") as log:
            self._running[name] = subprocess.Popen(
                [str(find(name, self.path)), *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PATH": self.path},
                start_new_session=True,
            )

    def log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def check(self) -> bool:
        """True; raises when one of them has ended."""
        for name, process in list(self._running.items()):  # another thread may be starting one
            if process.poll() is not None:
                raise RuntimeError(f"{name} exited {process.returncode}:\n{tail(self.log(name))}")
        return True

    def stop(self, seconds: float = 5.0) -> None:
        """Ask each to end, the last started first; what does not is killed."""
        for process in reversed(self._running.values()):
            process.terminate()
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()

    def _filled(self, template: Path) -> str:
        return Template(template.read_text()).substitute(self._values)
