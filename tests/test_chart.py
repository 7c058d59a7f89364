"""The chart: generated CRDs, the rights that the code needs and no more, templates that render."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tandem_operator import kube
from tandem_operator.api import LLMService
from tandem_operator.crd import definitions
from tandem_operator.desired import children

ROOT = Path(__file__).parents[1]
CHART = ROOT / "charts/tandem"
QUICKSTART = ROOT / "manifests/samples/quickstart.yaml"
MONITORING = "--api-versions=monitoring.coreos.com/v1"
Object = dict[str, Any]


def helm() -> str:
    """From PATH, or from the cache that the end-to-end run fills."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tandem/clients"
    found = shutil.which("helm") or shutil.which("helm", path=str(cache))
    if found is None:
        pytest.skip("helm is not on PATH")
    return found


def render(*options: str) -> dict[str, Object]:
    """The chart's objects by kind; each kind occurs once."""
    command = [helm(), "template", "tandem", str(CHART), "--namespace=tandem-system", *options]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
    objects = [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]
    assert len({manifest["kind"] for manifest in objects}) == len(objects)
    return {manifest["kind"]: manifest for manifest in objects}


@pytest.fixture(scope="module")
def rendered() -> dict[str, Object]:
    return render(MONITORING)


def rights(role: Object) -> set[tuple[str, str, str]]:
    """(API group, resource, verb) that a role gives."""
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def needed(kind: kube.Kind, *verbs: str) -> set[tuple[str, str, str]]:
    group = kind[0].rpartition("/")[0]
    return {(group, f"{kind[1].lower()}s", verb) for verb in verbs}


def test_crds_are_the_generated_ones() -> None:
    expected = definitions()
    for folder in (CHART / "crds", ROOT / "manifests/crds"):
        found = {path.name: yaml.safe_load(path.read_text()) for path in folder.glob("*.yaml")}
        assert found == expected, f"run: python -m tandem_operator.crd {folder.relative_to(ROOT)}"


def test_default_values_fit_their_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    jsonschema.validate(values, schema)
    assert set(values) | {"global"} == set(schema["properties"])


def test_chart_and_distribution_have_one_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{chart["appVersion"]}"' in project


def test_lint() -> None:
    subprocess.run([helm(), "lint", "--strict", "--quiet", str(CHART)], check=True, timeout=30)


def test_role_is_what_the_operator_does_and_no_more(rendered: dict[str, Object]) -> None:
    group = kube.SERVICES[0].rpartition("/")[0]
    expected = needed(kube.SERVICES, "get", "list", "watch") | needed(kube.PODS, "get", "list", "watch")
    for kind in kube.CHILDREN:
        expected |= needed(kind, "get", "list", "watch", "create", "patch", "delete")
    expected |= {("", "events", verb) for verb in ("create", "patch")}
    for resource in ("llmservices/status", "workerpools/status", "workerpools/scale"):
        expected.add((group, resource, "patch"))
    expected |= {(group, f"{resource}/finalizers", "update") for resource in ("llmservices", "workerpools")}
    assert rights(rendered["ClusterRole"]) == expected


def test_manifests_give_the_same_rights(rendered: dict[str, Object]) -> None:
    documents = yaml.safe_load_all((ROOT / "manifests/rbac/operator.yaml").read_text())
    plain = next(manifest for manifest in documents if manifest["kind"] == "ClusterRole")
    assert rights(plain) == rights(rendered["ClusterRole"])


def test_operator_holds_what_it_grants_to_routers(rendered: dict[str, Object]) -> None:
    service = LLMService.model_validate(yaml.safe_load(QUICKSTART.read_text()))
    roles = [manifest for manifest in children(service) if manifest["kind"] == "Role"]
    assert roles
    assert all(rights(role) <= rights(rendered["ClusterRole"]) for role in roles)


def test_operator_pod_is_restricted(rendered: dict[str, Object]) -> None:
    pod = rendered["Deployment"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    container = pod["containers"][0]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container)
    assert {"requests", "limits"} <= set(container["resources"])


def test_operator_arguments_are_options_of_the_command() -> None:
    from tandem_operator.commands.operator import command

    images = [f"--set=images.{name}=example.test/{name}:1" for name in ("router", "worker", "vllm")]
    deployment = render("--set=watchNamespace=prod", *images)["Deployment"]
    arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    context = command.make_context("operator", arguments)
    assert context.params["namespace"] == "prod"
    assert [context.params[f"{name}_image"] for name in ("router", "worker", "vllm")] == [
        f"example.test/{name}:1" for name in ("router", "worker", "vllm")
    ]
    ports = {port["name"]: port["containerPort"] for port in _ports(deployment)}
    assert ports == {"metrics": context.params["metrics_port"], "health": context.params["health_port"]}


def _ports(deployment: Object) -> list[Object]:
    ports: list[Object] = deployment["spec"]["template"]["spec"]["containers"][0]["ports"]
    return ports


def test_every_port_names_its_protocol(rendered: dict[str, Object]) -> None:
    # The protocol is part of a port's key in server-side apply; old API servers refuse ports without it.
    ports = [*rendered["Service"]["spec"]["ports"], *_ports(rendered["Deployment"])]
    assert all(port["protocol"] == "TCP" for port in ports)


def test_one_namespace_needs_no_cluster_role() -> None:
    objects = render("--set=watchNamespace=prod", MONITORING)
    assert not {kind for kind in objects if kind.startswith("Cluster")}
    assert objects["Role"]["metadata"]["namespace"] == "prod"
    assert objects["RoleBinding"]["subjects"][0]["namespace"] == "tandem-system"
    assert objects["PodMonitor"]["spec"]["namespaceSelector"] == {"matchNames": ["prod"]}


def test_monitors_need_the_prometheus_operator(rendered: dict[str, Object]) -> None:
    assert not {"ServiceMonitor", "PodMonitor"} & set(render())
    assert {"ServiceMonitor", "PodMonitor"} <= set(rendered)
    labels = rendered["Service"]["metadata"]["labels"]
    assert rendered["ServiceMonitor"]["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_pod_monitor_finds_every_pod(rendered: dict[str, Object]) -> None:
    service = LLMService.model_validate(yaml.safe_load(QUICKSTART.read_text()))
    wanted = rendered["PodMonitor"]["spec"]["selector"]["matchLabels"]
    router = next(child for child in children(service) if child["kind"] == "Deployment")
    assert wanted.items() <= router["spec"]["template"]["metadata"]["labels"].items()
    port = rendered["PodMonitor"]["spec"]["podMetricsEndpoints"][0]["port"]
    assert port in {named["name"] for named in _ports(router)}


def test_dashboard_is_a_labelled_config_map(rendered: dict[str, Object]) -> None:
    config = rendered["ConfigMap"]
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(config["data"]["llmservice.json"])["title"] == "Tandem / LLMService"


@pytest.mark.parametrize(
    "bad",
    ["image.pullPolicy=Sometimes", "unknown=1", "watchNamespace=Not_A_Name", "metrics.podMonitor.interval=x"],
)
def test_bad_values_are_refused(bad: str) -> None:
    command = [helm(), "template", "tandem", str(CHART), f"--set={bad}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode != 0
    assert bad.split("=")[0].split(".")[-1] in done.stderr
