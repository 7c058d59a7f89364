"""etcd, kube-apiserver, kube-controller-manager and kube-scheduler as plain processes."""

from pathlib import Path

from tandem_e2e.cluster import pki
from tandem_e2e.cluster.processes import Processes
from tandem_e2e.cluster.sandbox import NODE_IP
from tandem_e2e.kubectl import Kubectl
from tandem_e2e.prepare.binaries import find
from tandem_e2e.shell import run, until

SERVER = f"https://{NODE_IP}:16443"
SERVICE_IP = "10.96.0.1"
CLIENTS = ("admin", "controller-manager", "scheduler", "node")


def start(rundir: Path, processes: Processes) -> Kubectl:
    """Bring it up; returns the administrator's kubectl once the API answers and the controllers run."""
    keys = rundir / "pki"
    pki.make(keys, ("127.0.0.1", NODE_IP, SERVICE_IP))
    configs = {name: pki.kubeconfig(keys, name, SERVER) for name in CLIENTS}
    kubectl = Kubectl(find("kubectl", processes.path), configs["admin"])

    def ready() -> bool:
        return processes.check() and kubectl("get", "--raw", "/readyz", timeout=5) == "ok"

    def controlled() -> bool:
        return processes.check() and bool(kubectl("get", "serviceaccount", "default", "-o", "name"))

    data = rundir / "etcd"
    data.mkdir()
    run("mount", "-t", "tmpfs", "tmpfs", data)  # etcd syncs every write, and a run's data need not outlive it
    processes.start("etcd")
    processes.start("kube-apiserver")
    until("the API server", ready, 60)
    processes.start("kube-controller-manager")
    processes.start("kube-scheduler")
    until("the controllers", controlled, 60)
    return kubectl
