"""The operator as a process, with the rights that it ships with, on the API server that KUBECONFIG names.

No node is needed: pods stay pending. Run it with `KUBECONFIG=... [KUBECTL=...] .venv/bin/pytest e2e/cluster`.
"""

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tandem_e2e.kubectl import Kubectl, Object
from tandem_e2e.shell import until

REPO = Path(__file__).parents[2]
KINDS = "serviceaccount,configmap,service,deployment,role,rolebinding,workerpool"
OWNED = "app.kubernetes.io/managed-by=tandem-operator"
METRICS_PORT, HEALTH_PORT = "29190", "28180"


@pytest.fixture(scope="session")
def kubectl() -> Kubectl:
    """kubectl with every right, once the API server serves our resources."""
    kubeconfig = os.environ.get("KUBECONFIG")
    binary = os.environ.get("KUBECTL") or shutil.which("kubectl")
    if not kubeconfig or not binary:
        pytest.skip("KUBECONFIG and KUBECTL name no cluster")
    found = Kubectl(Path(binary), Path(kubeconfig))
    # Kubernetes before 1.25 does not know CEL rules and drops them; the operator checks them there.
    found("apply", "--validate=false", "-f", str(REPO / "manifests/crds"))
    for plural in ("llmservices", "workerpools"):
        found("wait", "--for=condition=Established", f"crd/{plural}.tandemserve.dev", "--timeout=20s")
    until("our resources", lambda: "workerpools" in found("api-resources", "-o", "name"), 20)
    return found


@pytest.fixture(scope="session")
def rights(kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kubeconfig of the ServiceAccount in manifests/rbac: the operator gets exactly these rights."""
    system = kubectl.within("tandem-system")
    if system.get("namespace", system.namespace) is None:
        system("create", "namespace", system.namespace)
    system("apply", "-f", str(REPO / "manifests/rbac/operator.yaml"))
    token = system("create", "token", "tandem-operator", "--duration=1h")
    document = yaml.safe_load(kubectl("config", "view", "--raw", "--flatten", "--minify"))
    document["users"][0]["user"] = {"token": token}
    path = tmp_path_factory.mktemp("operator") / "kubeconfig"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


class OperatorProcess:
    """`tandem operator` for the whole cluster, with a log that a failing test prints."""

    def __init__(self, kubeconfig: Path, log: Path) -> None:
        self._environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        ports = ("--listen", "127.0.0.1", "--metrics-port", METRICS_PORT, "--health-port", HEALTH_PORT)
        command = (sys.executable, "-m", "tandem_operator", "operator", *ports)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)

    def check(self) -> None:
        """Fails if it does not run."""
        assert self._process is not None
        assert self._process.poll() is None, self.said()

    def stop(self) -> int:
        """Its exit status after SIGTERM."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(timeout=20)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(timeout=20)

    def said(self) -> str:
        return self._log.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def operator(rights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    process = OperatorProcess(rights, tmp_path_factory.mktemp("log") / "operator.log")
    process.start()
    yield process
    assert process.stop() == 0, process.said()
    said = process.said()
    assert "Traceback" not in said, said
    assert "forbidden" not in said.lower(), f"the rights in manifests/rbac are too few: {said}"


class Namespace:
    """One namespace, and short words for what tests do in it."""

    def __init__(self, kubectl: Kubectl) -> None:
        self.kubectl = kubectl
        self.name = kubectl.namespace

    def create(self, manifest: Object, *options: str) -> None:
        self.kubectl("create", *options, "-f", "-", stdin=yaml.safe_dump(manifest))

    def get(self, kind: str, name: str) -> Any:
        found = self.kubectl.get(kind, name)
        assert found is not None, f"there is no {kind} {name}"
        return found

    def replicas(self, deployment: str) -> int | None:
        """Replicas of a Deployment; None if it is not there."""
        found = self.kubectl.get("deployment", deployment)
        return found["spec"]["replicas"] if found else None

    def scale(self, pool: str, replicas: int) -> None:
        self.kubectl("scale", f"pool/{pool}", f"--replicas={replicas}")

    def condition(self, type_: str) -> Object:
        """A condition of the quickstart."""
        return self.kubectl.condition("llms", "quickstart", type_)

    def owned(self) -> dict[str, str]:
        """Everything that carries the operator's label, with its resource version."""
        return {
            f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"]
            for item in self.kubectl.all(KINDS, OWNED)
        }

    def told(self, reason: str, name: str = "quickstart") -> list[str]:
        """Messages of the Events with that reason."""
        return [event["message"] for event in self.kubectl.events(name) if event["reason"] == reason]


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[Namespace]:
    inside = kubectl.within(f"t-{uuid.uuid4().hex[:8]}")
    inside("create", "namespace", inside.namespace)
    yield Namespace(inside)
    inside("delete", "namespace", inside.namespace, "--wait=false")


@pytest.fixture
def quickstart() -> Object:
    sample: Object = yaml.safe_load((REPO / "manifests/samples/quickstart.yaml").read_text(encoding="utf-8"))
    return sample
