"""Test suites that need a piece of the cluster: the API server alone, or a Prometheus binary."""

import os
import sys

from tandem_e2e.kubectl import Kubectl
from tandem_e2e.settings import REPO
from tandem_e2e.shell import run

# What e2e/cluster puts on the API server, and would be in the way of Helm.
LEFTOVERS = ("manifests/rbac/operator.yaml", "manifests/crds")


def operator_alone(kubectl: Kubectl) -> None:
    """The operator as a process against an API server without nodes: e2e/cluster."""
    environment = {"KUBECONFIG": str(kubectl.kubeconfig), "KUBECTL": str(kubectl.binary)}
    _pytest(environment, "e2e/cluster")
    system = kubectl.within("tandem-system")
    system("delete", "--ignore-not-found", *(f"--filename={REPO / path}" for path in LEFTOVERS), timeout=120)
    system("delete", "namespace", system.namespace, "--ignore-not-found", timeout=120)


def telemetry(path: str) -> None:
    """The planner's PromQL on a Prometheus that is found on `path`."""
    _pytest({"PATH": path, "TANDEM_REQUIRE_PROMETHEUS": "1"}, "-m", "prometheus", "tests/tandem_operator")


def _pytest(environment: dict[str, str], *arguments: str) -> None:
    command = (sys.executable, "-m", "pytest", "-q", *arguments)
    output = run(*command, cwd=REPO, env=os.environ | environment, timeout=600)
    print(f"    {output.strip().splitlines()[-1]}", flush=True)
