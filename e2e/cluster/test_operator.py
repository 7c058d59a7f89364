"""The operator on a real API server, with the rights of manifests/rbac."""

import copy
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from tandem_e2e.kubectl import Kubectl, Object
from tandem_e2e.shell import CommandError, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

TABLE = yaml.safe_load(
    (Path(__file__).parents[2] / "tests/tandem_operator/specs.yaml").read_text(encoding="utf-8")
)
NAME = "quickstart"
CHILDREN = {
    "ServiceAccount/quickstart-router",
    "Role/quickstart-router",
    "RoleBinding/quickstart-router",
    "Deployment/quickstart-router",
    "Service/quickstart",
    "ConfigMap/quickstart-client",
    "WorkerPool/quickstart-prefill",
    "WorkerPool/quickstart-decode",
    "Deployment/quickstart-prefill",
    "Deployment/quickstart-decode",
}
# Wrong only across fields: an API server without CEL lets it pass, and the operator has to catch it.
ACROSS = {"spec": {"kvTransfer": {"connector": "nixl"}, "model": {"name": "other"}}}


@pytest.fixture
def running(namespace: Any, operator: Any, quickstart: Object) -> Any:
    """The quickstart with all its children."""
    operator.check()
    namespace.create(quickstart)
    until("all children", lambda: set(namespace.owned()) == CHILDREN, 15)
    until("a status", lambda: namespace.condition("Progressing").get("status") == "True", 10)
    return namespace


@pytest.fixture(scope="session")
def knows_rules(kubectl: Kubectl) -> bool:
    """Whether the API server kept our CEL rules."""
    found = kubectl.get("crd", "llmservices.tandemserve.dev")
    return found is not None and "x-kubernetes-validations" in str(found["spec"])


def settle(namespace: Any) -> dict[str, str]:
    """The children's versions once nothing changes any more."""
    seen: dict[str, str] = {}

    def same() -> bool:
        nonlocal seen
        before, seen = seen, namespace.owned()
        return before == seen

    until("the children to settle", same, 30, poll=1.0)
    return seen


def pools_of(namespace: Any) -> list[Object]:
    return copy.deepcopy(namespace.get("llms", NAME)["spec"]["pools"])


def test_one_resource_becomes_all_it_needs(running: Any) -> None:
    service = running.get("llms", NAME)
    assert "finalizers" not in service["metadata"]
    status = service["status"]
    assert status["observedGeneration"] == 1
    assert [pool["desired"] for pool in status["pools"]] == [2, 2]
    assert status["readiness"] == {"prefill": "0/2", "decode": "0/2"}
    assert running.condition("Available")["reason"] == "RouterNotReady"
    assert any("WorkerPool quickstart-prefill" in message for message in running.told("Created"))
    until("two pods", lambda: len(running.kubectl.all("pod", "tandemserve.dev/role=decode")) == 2, 10)


def test_kubectl_shows_what_matters(running: Any) -> None:
    header, row = running.kubectl("get", "llms").splitlines()
    assert header.split() == ["NAME", "MODEL", "ENGINE", "PREFILL", "DECODE", "AVAILABLE", "REASON", "AGE"]
    assert row.split()[:-1] == [NAME, "recall", "native", "0/2", "0/2", "False", "RouterNotReady"]
    header, row, _ = running.kubectl("get", "pool").splitlines()
    assert header.split() == ["NAME", "SERVICE", "ROLE", "DESIRED", "READY", "AGE"]
    assert row.split()[:-1] == ["quickstart-decode", NAME, "decode", "2", "0"]


def test_a_settled_service_is_not_written(running: Any) -> None:
    before = settle(running)
    time.sleep(5)
    assert running.owned() == before


def test_every_kind_of_child_comes_back_when_it_is_deleted(running: Any) -> None:
    settle(running)
    for child in sorted(CHILDREN):
        running.kubectl("delete", child.lower(), "--wait=false", "--ignore-not-found")
    until("the children to come back", lambda: set(running.owned()) == CHILDREN, 60)
    until("the Event", lambda: "Service quickstart: it was deleted" in running.told("Restored"), 10)


def test_what_somebody_edits_is_put_back(running: Any) -> None:
    settle(running)
    containers = [{"name": "worker", "image": "evil:1"}]
    edit = {"spec": {"replicas": 5, "template": {"spec": {"containers": containers}}}}
    running.kubectl("patch", "deployment", "quickstart-decode", "--patch", yaml.safe_dump(edit))
    running.kubectl.patch("service", NAME, {"spec": {"selector": {"tandemserve.dev/service": "x"}}})
    running.kubectl.patch("role", "quickstart-router", {"rules": []})

    def back() -> bool:
        deployment = running.get("deployment", "quickstart-decode")["spec"]
        image: str = deployment["template"]["spec"]["containers"][0]["image"]
        selector = running.get("service", NAME)["spec"]["selector"]
        rules = running.get("role", "quickstart-router")["rules"]
        found = (deployment["replicas"], image.partition(":")[0], selector["tandemserve.dev/service"])
        return found == (2, "tandem-worker", NAME) and bool(rules)

    until("the edits to be undone", back, 10)


def test_scaling_a_pool(running: Any, knows_rules: bool) -> None:
    pool = "quickstart-decode"
    running.scale(pool, 3)
    until("three replicas", lambda: running.replicas(pool) == 3, 10)
    until("the count", lambda: running.get("pool", pool)["status"]["replicas"] == 3, 10)
    assert "tandemserve.dev/pool=decode" in running.get("pool", pool)["status"]["selector"]
    if knows_rules:
        with pytest.raises(CommandError, match="must not be greater than maxReplicas"):
            running.scale(pool, 50)
        return
    running.scale(pool, 50)
    until("the bound to be enforced", lambda: running.get("pool", pool)["spec"]["replicas"] == 4, 10)
    until("four replicas", lambda: running.replicas(pool) == 4, 10)


def test_the_services_number_counts_again_when_it_changes(running: Any) -> None:
    running.scale("quickstart-decode", 3)
    until("three replicas", lambda: running.replicas("quickstart-decode") == 3, 10)
    pools = pools_of(running)
    pools[1]["replicas"] = 1
    running.kubectl.patch("llms", NAME, {"spec": {"pools": pools}})
    until("one replica", lambda: running.replicas("quickstart-decode") == 1, 10)


def test_what_is_taken_out_of_the_spec_goes(running: Any) -> None:
    pools = pools_of(running)
    more = {"env": [{"name": "A", "value": "1"}], "args": ["--seed", "1"]}
    pools[1] |= {"args": ["--threads", "1"], "resources": {"limits": {"memory": "1Gi", "cpu": "1000m"}}}
    running.kubectl.patch("llms", NAME, {"spec": {"engine": more, "pools": pools}})

    def decode() -> Object:
        found: Object = running.get("deployment", "quickstart-decode")["spec"]["template"]["spec"][
            "containers"
        ][0]
        return found

    until("what was added", lambda: decode()["args"][-4:] == ["--seed", "1", "--threads", "1"], 10)
    assert decode()["resources"] == {"limits": {"cpu": "1", "memory": "1Gi"}}
    assert decode()["env"][-1] == {"name": "A", "value": "1"}
    settle(running)
    pools[1] |= {"args": [], "resources": {}}
    running.kubectl.patch("llms", NAME, {"spec": {"engine": {"env": [], "args": []}, "pools": pools}})
    until("it to go", lambda: "--threads" not in decode()["args"], 10)
    assert decode()["env"][-1]["name"] == "POD_NAME"
    assert decode().get("resources", {}) == {}
    settle(running)
    assert running.condition("Degraded")["status"] == "False"


def test_a_bad_spec_changes_nothing_that_runs(running: Any, knows_rules: bool) -> None:
    before = settle(running)
    told = "connector nixl needs engine type vllm or sglang or trtllm"
    if knows_rules:
        with pytest.raises(CommandError, match=told):
            running.kubectl.patch("llms", NAME, ACROSS)
        return
    running.kubectl.patch("llms", NAME, ACROSS)
    until("the condition", lambda: running.condition("Degraded").get("status") == "True", 10)
    message = f"spec.kvTransfer.connector: {told}"
    assert running.condition("Degraded")["message"] == message
    until("the Event", lambda: message in running.told("InvalidSpec"), 10)
    assert settle(running) == before


def test_children_that_the_server_refuses_change_nothing_that_runs(running: Any) -> None:
    before = settle(running)
    pools = pools_of(running)
    pools[0]["resources"] = {"requests": {"memory": "8Gi"}, "limits": {"memory": "1Gi"}}
    running.kubectl.patch("llms", NAME, {"spec": {"pools": pools, "model": {"name": "other"}}})
    until("the condition", lambda: running.condition("Degraded").get("reason") == "Refused", 10)
    assert "must be less than or equal to memory limit" in running.condition("Degraded")["message"]
    assert settle(running) == before
    pools[0]["resources"] = {}
    running.kubectl.patch("llms", NAME, {"spec": {"pools": pools}})
    until("recovery", lambda: running.condition("Degraded").get("status") == "False", 10)


@pytest.mark.usefixtures("operator")
def test_a_strangers_service_of_that_name_is_left_alone(namespace: Any, quickstart: Object) -> None:
    namespace.kubectl("create", "service", "clusterip", NAME, "--tcp=80")
    namespace.create(quickstart)
    until("the condition", lambda: namespace.condition("Degraded").get("reason") == "NameConflict", 10)
    assert namespace.get("service", NAME)["spec"]["selector"] == {"app": NAME}
    assert namespace.owned() == {}
    namespace.kubectl("delete", "service", NAME)
    until("the children once the name is free", lambda: set(namespace.owned()) == CHILDREN, 90)


def test_deleting_the_resource_leaves_nothing(running: Any) -> None:
    running.kubectl("delete", "llms", NAME)
    until("the children to go", lambda: running.owned() == {}, 30)
    label = f"tandemserve.dev/service={NAME}"
    until("the pods to go", lambda: running.kubectl.all("pod,replicaset", label) == [], 90)


def test_a_resource_that_comes_again_at_once_is_made_anew(running: Any, quickstart: Object) -> None:
    running.kubectl("delete", "llms", NAME)
    running.create(quickstart)
    uid = running.get("llms", NAME)["metadata"]["uid"]

    def renewed() -> bool:
        pools = running.kubectl.all("pool")
        owners = {pool["metadata"]["ownerReferences"][0]["uid"] for pool in pools}
        return owners == {uid} and set(running.owned()) == CHILDREN

    until("children of the new resource", renewed, 90)
    until("no conflict any more", lambda: running.condition("Degraded").get("status") == "False", 90)


def test_what_happened_while_the_operator_was_away_is_mended(running: Any, operator: Any) -> None:
    settle(running)
    operator.kill()
    try:
        running.kubectl("delete", "service", NAME)
        running.kubectl("scale", "deployment/quickstart-decode", "--replicas=9")
        running.scale("quickstart-prefill", 3)
    finally:
        operator.start()
    until("the Service", lambda: "Service/quickstart" in running.owned(), 20)
    until("the edit to be undone", lambda: running.replicas("quickstart-decode") == 2, 20)
    until("the scaling to be kept", lambda: running.replicas("quickstart-prefill") == 3, 20)


def test_health_and_metrics_answer(running: Any) -> None:
    with urllib.request.urlopen("http://127.0.0.1:28180/healthz", timeout=5) as answer:
        assert answer.status == 200
    wanted = f'tandem_pool_replicas{{llmservice="quickstart",namespace="{running.name}",pool="decode"'

    def exposed() -> bool:
        with urllib.request.urlopen("http://127.0.0.1:29190/metrics", timeout=5) as answer:
            return wanted in answer.read().decode()

    until("the pool's size", exposed, 10)


def merged(base: Any, patch: Any) -> Any:
    """RFC 7396, on copies."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = copy.deepcopy(base) if isinstance(base, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def refused(namespace: Any, change: Any) -> str | None:
    """What the API server has against the table's service with that change."""
    service = merged(TABLE["base"], change)
    service["metadata"]["namespace"] = namespace.name
    try:
        namespace.create(service, "--dry-run=server", "--validate=false")
    except CommandError as error:
        return str(error)
    return None


def test_the_api_server_takes_every_good_spec_of_the_table(namespace: Any) -> None:
    told = {case: refused(namespace, change) for case, change in TABLE["good"].items()}
    assert {case: text for case, text in told.items() if text} == {}


def test_the_api_server_refuses_every_bad_spec_of_the_table(namespace: Any, knows_rules: bool) -> None:
    taken = [case for case, bad in TABLE["bad"].items() if refused(namespace, bad["change"]) is None]
    if knows_rules:
        assert taken == []
    else:
        assert len(taken) < len(TABLE["bad"]) / 2, "the schema alone catches most"
