"""What a person wants to see when a step failed."""

from collections.abc import Callable

from tandem_e2e.kubectl import Kubectl, Object
from tandem_e2e.scenario.run import NAMESPACE, OPERATOR_NAMESPACE
from tandem_e2e.shell import CommandError


def show(kubectl: Kubectl) -> None:
    """Print services, pods, events, and the logs of the operator, the routers and the pods that fail."""
    services, operators = kubectl.within(NAMESPACE), kubectl.within(OPERATOR_NAMESPACE)
    _section("services", lambda: services("get", "llms,pool,deployments,pods", "-o", "wide"))
    _section("status", lambda: services("get", "llms", "-o", "jsonpath={.items[*].status}"))
    _section("events", lambda: services("get", "events", "--sort-by=.lastTimestamp"), lines=40)
    _section("operator", lambda: operators("logs", "-l", "app.kubernetes.io/component=operator", "--tail=60"))
    _section("router", lambda: services("logs", "-l", "app.kubernetes.io/component=router", "--tail=40"))
    try:
        failing = [pod for pod in services.all("pods") if not _fine(pod)]
    except CommandError as error:
        print(error)
        return
    for pod in failing:
        _pod(services, pod["metadata"]["name"])


def _pod(services: Kubectl, name: str) -> None:
    _section(f"pod {name}", lambda: services("describe", "pod", name), lines=30)
    _section(f"log of {name}", lambda: services("logs", name, "--tail=40"))
    _section(f"log before, of {name}", lambda: services("logs", name, "--previous", "--tail=40"))


def _fine(pod: Object) -> bool:
    statuses = pod["status"].get("containerStatuses", [])
    return bool(statuses) and all(one["ready"] and not one["restartCount"] for one in statuses)


def _section(title: str, text: Callable[[], str], lines: int = 80) -> None:
    try:
        shown = "\n".join(text().splitlines()[-lines:])
    except CommandError as error:
        shown = str(error).splitlines()[-1]
    print(f"---- {title}\n{shown}", flush=True)
