"""The operator: installed and uninstalled with Helm."""

from tandem_e2e.kubectl import Object
from tandem_e2e.scenario.run import NAMESPACE, OPERATOR_NAMESPACE, Run
from tandem_e2e.settings import REPO
from tandem_e2e.shell import run

RELEASE = "tandem"
CRDS = ("llmservices.tandemserve.dev", "workerpools.tandemserve.dev")
# Helm 4 applies on the server's side; there, servers before 1.25 refuse x-kubernetes-validations.
CLIENT_SIDE = "--server-side=false"


def install(this: Run) -> None:
    """`helm install`, and the operator is ready."""
    repository, _, tag = this.image.rpartition(":")
    images = [f"images.{name}={this.image}" for name in ("router", "worker")]
    values = [*images, f"image.repository={repository}", f"image.tag={tag}"]
    helm(
        *(this, "install", RELEASE, str(REPO / "charts/tandem"), "--create-namespace", CLIENT_SIDE),
        *("--wait", "--timeout=180s", *(f"--set={value}" for value in values)),
    )
    operators = this.kubectl.within(OPERATOR_NAMESPACE)
    operators("rollout", "status", "deployment/tandem-operator", "--timeout=60s", timeout=70)
    operators("wait", "--for=condition=Established", *(f"crd/{name}" for name in CRDS))
    this.kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})


def uninstall(this: Run) -> None:
    """`helm uninstall` leaves the CRDs, as Helm does; without them nothing of the chart is left."""
    helm(this, "uninstall", RELEASE, "--wait", "--timeout=120s")
    this.kubectl("delete", "crd", *CRDS, timeout=120)
    label = f"app.kubernetes.io/instance={RELEASE}"
    operators = this.kubectl.within(OPERATOR_NAMESPACE)

    def left() -> list[Object]:
        cluster_wide = operators.all("clusterroles,clusterrolebindings", label)
        return [*cluster_wide, *operators.all("all,configmaps,serviceaccounts,secrets", label)]

    this.wait("nothing of the release to be left", lambda: not left())
    operators("delete", "namespace", OPERATOR_NAMESPACE, NAMESPACE, "--wait=false")


def helm(this: Run, *arguments: str) -> str:
    """Run helm against the cluster, in the operator's namespace."""
    fixed = (this.helm, f"--kubeconfig={this.kubectl.kubeconfig}", f"--namespace={OPERATOR_NAMESPACE}")
    return run(*fixed, *arguments, timeout=300)
