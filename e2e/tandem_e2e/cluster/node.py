"""A node: containerd, the kubelet, kube-proxy. Called `localhost`, so that logs and exec stay on loopback."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from tandem_e2e.cluster.processes import Processes
from tandem_e2e.kubectl import Kubectl, Object
from tandem_e2e.prepare import image
from tandem_e2e.prepare.binaries import find
from tandem_e2e.prepare.layers import Layer
from tandem_e2e.rundir import CGROUPS
from tandem_e2e.shell import run, until

PAUSE_IMAGE = "tandem-e2e.test/pause:1"


def start_containerd(rundir: Path, processes: Processes) -> list[str]:
    """Start containerd; returns the command line of its client."""
    ctr = [str(find("ctr", processes.path)), f"--address={rundir}/containerd.sock", "--namespace=k8s.io"]
    processes.start("containerd")
    until("containerd", lambda: processes.check() and bool(run(*ctr, "version", timeout=5)), 30)
    return ctr


def load(ctr: list[str], name: str, config: dict[str, Any], layers: list[Layer]) -> None:
    """Import an image."""
    with subprocess.Popen(
        [*ctr, "images", "import", "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as importer:
        if importer.stdin is not None:
            with importer.stdin:
                image.write(importer.stdin, name, config, layers)
        if importer.wait(300) != 0:
            raise RuntimeError(f"image {name} was not imported")


def start_kubelet(processes: Processes, kubectl: Kubectl) -> None:
    """Start the kubelet and kube-proxy; returns once the node is Ready and takes pods."""
    processes.start("kubelet")
    processes.start("kube-proxy")

    def ready() -> bool:
        processes.check()
        node = kubectl.get("node", "localhost") or {}
        conditions = {row["type"]: row["status"] for row in node.get("status", {}).get("conditions", ())}
        return conditions.get("Ready") == "True" and not node["spec"].get("taints")

    until("the node to be Ready", ready, 90)


def crash(cgroup: str, pod: Object) -> None:
    """Kill the processes of a pod's containers; the kubelet starts the containers again."""
    groups = CGROUPS.glob(f"**/{cgroup}/kubepods/**/pod{pod['metadata']['uid']}/*/cgroup.procs")
    processes = {int(line) for group in groups for line in group.read_text().split()}
    workers = [pid for pid in processes if "/pause" not in Path(f"/proc/{pid}/cmdline").read_text()]
    assert workers, f"no process of {pod['metadata']['name']}"
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
