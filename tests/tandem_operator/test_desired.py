"""The children of a service and of a pool, as the API server and the other processes need them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tandem_operator.api import LLMService, Manifest, WorkerPool
from tandem_operator.desired import children, pool_children
from tandem_operator.desired.replicas import LivePool
from tandem_operator.images import Images
from tandem_operator.validation import load_service
from tandem_router.settings import read_settings

SAMPLES = sorted((Path(__file__).parents[2] / "manifests/samples").glob("*.yaml"))
IMAGES = Images(router="reg/router:1", native="reg/worker:1", vllm="reg/vllm:1")

MakeService = Callable[..., LLMService]


def everything(service: LLMService) -> list[Manifest]:
    made = children(service, IMAGES)
    pools = [WorkerPool.model_validate(each) for each in made if each["kind"] == "WorkerPool"]
    return [*made, *(child for pool in pools for child in pool_children(pool))]


def workers(service: LLMService, pool: str) -> Manifest:
    name = f"{service.metadata.name}-{pool}"
    return next(
        each
        for each in everything(service)
        if (each["kind"], each["metadata"]["name"]) == ("Deployment", name)
    )


def container(deployment: Manifest) -> Manifest:
    found: Manifest = deployment["spec"]["template"]["spec"]["containers"][0]
    return found


def option(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


@pytest.fixture(params=[path.name for path in SAMPLES])
def sample(request: pytest.FixtureRequest) -> LLMService:
    path = next(path for path in SAMPLES if path.name == request.param)
    return load_service(yaml.safe_load(path.read_text(encoding="utf-8")))


def test_a_service_becomes_a_router_and_a_pool_for_each_pool(make_service: MakeService) -> None:
    made = [(each["kind"], each["metadata"]["name"]) for each in children(make_service(), IMAGES)]
    assert made == [
        ("ServiceAccount", "base-router"),
        ("Role", "base-router"),
        ("RoleBinding", "base-router"),
        ("Deployment", "base-router"),
        ("Service", "base"),
        ("ConfigMap", "base-client"),
        ("WorkerPool", "base-prefill"),
        ("WorkerPool", "base-decode"),
    ]


def test_names_are_unique_and_fit_for_every_sample(sample: LLMService) -> None:
    made = [(each["kind"], each["metadata"]["name"]) for each in everything(sample)]
    assert len(set(made)) == len(made)
    assert all(len(name) <= 63 for _, name in made)


def test_every_child_of_every_sample_is_labelled(sample: LLMService) -> None:
    for each in everything(sample):
        labels = each["metadata"]["labels"]
        assert labels["app.kubernetes.io/managed-by"] == "tandem-operator"
        assert labels["tandemserve.dev/service"] == sample.metadata.name
        assert labels["app.kubernetes.io/component"] in ("router", "worker")


def test_every_child_belongs_to_its_maker(make_service: MakeService) -> None:
    for each in children(make_service(), IMAGES):
        owner = each["metadata"]["ownerReferences"][0]
        assert (owner["kind"], owner["uid"], owner["controller"]) == ("LLMService", "uid-base", True)


def test_a_file_without_uid_gives_no_owner_references(quickstart: Manifest) -> None:
    assert all("ownerReferences" not in each["metadata"] for each in everything(load_service(quickstart)))


def test_pods_are_restricted(sample: LLMService) -> None:
    for each in everything(sample):
        if each["kind"] != "Deployment":
            continue
        pod = each["spec"]["template"]["spec"]
        security = container(each)["securityContext"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["readOnlyRootFilesystem"]
        assert not security["allowPrivilegeEscalation"]
        assert {"name": "tmp", "mountPath": "/tmp"} in container(each)["volumeMounts"]


def test_workers_hold_no_token_of_the_api_server(make_service: MakeService) -> None:
    assert (
        workers(make_service(), "decode")["spec"]["template"]["spec"]["automountServiceAccountToken"] is False
    )


def test_every_port_names_its_protocol_for_server_side_apply(sample: LLMService) -> None:
    for each in everything(sample):
        if each["kind"] == "Deployment":
            assert all(port["protocol"] == "TCP" for port in container(each)["ports"])
        if each["kind"] == "Service":
            assert all(port["protocol"] == "TCP" for port in each["spec"]["ports"])


def test_a_selector_finds_its_pods_and_never_changes(sample: LLMService) -> None:
    for each in everything(sample):
        if each["kind"] == "Deployment":
            chosen = each["spec"]["selector"]["matchLabels"]
            assert chosen.items() <= each["spec"]["template"]["metadata"]["labels"].items()
            assert "tandemserve.dev/revision" not in chosen


def test_a_native_worker_gets_what_it_needs(make_service: MakeService) -> None:
    service = make_service(
        model={"maxModelLen": 2048},
        engine={"args": ["--seed", "1"]},
        pools=[
            {"name": "prefill", "role": "prefill"},
            {"name": "decode", "role": "decode", "args": ["--threads", "2"]},
        ],
    )
    worker = container(workers(service, "decode"))
    arguments = worker["args"]
    assert worker["command"] == ["tandem", "worker"]
    assert worker["image"] == "reg/worker:1"
    assert option(arguments, "--model") == "models/recall"
    assert option(arguments, "--served-model-name") == "recall"
    assert option(arguments, "--role") == "decode"
    assert option(arguments, "--host") == option(arguments, "--kv-host") == "$(POD_IP)"
    assert (option(arguments, "--port"), option(arguments, "--kv-port")) == ("8100", "8200")
    assert option(arguments, "--max-model-len") == "2048"
    assert (option(arguments, "--service"), option(arguments, "--pool")) == ("base", "decode")
    assert arguments[-4:] == ["--seed", "1", "--threads", "2"]


def test_an_address_in_the_arguments_is_known_before_it_is_used(sample: LLMService) -> None:
    for each in everything(sample):
        if each["kind"] == "Deployment":
            names = [variable["name"] for variable in container(each)["env"]]
            assert names[:2] == ["POD_IP", "POD_NAME"]
            assert len(set(names)) == len(names)


def test_a_vllm_worker_takes_its_side_of_the_hand_over(make_service: MakeService) -> None:
    service = make_service(engine={"type": "vllm", "env": [{"name": "HOME", "value": "/cache"}]})
    worker = container(workers(service, "prefill"))
    env = {variable["name"]: variable.get("value") for variable in worker["env"]}
    assert worker["command"] == ["vllm", "serve"]
    assert worker["args"][0] == "models/recall"
    assert '"kv_role": "kv_producer"' in option(worker["args"], "--kv-transfer-config")
    assert env["VLLM_NIXL_SIDE_CHANNEL_HOST"] == "$(POD_IP)"
    assert env["HOME"] == "/cache", "what the user sets wins over the preset"
    assert len(env) == len(worker["env"]), "a variable that is there twice cannot be applied"
    assert worker["readinessProbe"]["httpGet"]["path"] == "/health"


def test_a_mixed_vllm_worker_needs_no_connector(make_service: MakeService) -> None:
    service = make_service(engine={"type": "vllm"}, pools=[{"name": "all", "role": "mixed"}])
    assert "--kv-transfer-config" not in container(workers(service, "all"))["args"]


@pytest.mark.parametrize(
    ("engine", "connector", "label", "command", "arguments"),
    [
        ("vllm", "nixl-push", "vllm-push", "vllm", '"kv_connector": "NixlPushConnector"'),
        ("vllm", "mooncake", "vllm-mooncake", "vllm", '"kv_connector": "MooncakeConnector"'),
        ("sglang", "auto", "sglang", "python3", "--disaggregation-transfer-backend mooncake"),
        ("sglang", "nixl", "sglang", "python3", "--disaggregation-transfer-backend nixl"),
        ("trtllm", "auto", "trtllm", "sh", "--extra_llm_api_options /tmp/options.yaml"),
    ],
)
def test_every_connector_is_told_to_both_sides(
    make_service: MakeService, engine: str, connector: str, label: str, command: str, arguments: str
) -> None:
    service = make_service(engine={"type": engine}, kvTransfer={"connector": connector})
    for pool in ("prefill", "decode"):
        deployment = workers(service, pool)
        worker = container(deployment)
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert labels["tandemserve.dev/engine"] == label
        assert worker["command"][0] == command
        assert arguments in " ".join(worker["args"])
        assert worker["image"] != IMAGES.native


def test_sglang_and_trtllm_know_their_side(make_service: MakeService) -> None:
    sglang = make_service(engine={"type": "sglang"})
    prefill, decode = (container(workers(sglang, pool)) for pool in ("prefill", "decode"))
    assert option(prefill["args"], "--disaggregation-mode") == "prefill"
    assert option(prefill["args"], "--disaggregation-bootstrap-port") == "8998"
    assert "--disaggregation-bootstrap-port" not in decode["args"]
    trtllm = make_service(engine={"type": "trtllm"}, kvTransfer={"connector": "ucx"})
    env = {each["name"]: each.get("value") for each in container(workers(trtllm, "prefill"))["env"]}
    assert json.loads(env["TANDEM_TRTLLM_OPTIONS"]) == {
        "cache_transceiver_config": {"backend": "UCX"},
        "disable_overlap_scheduler": True,
    }
    for engine in ("sglang", "trtllm"):
        mixed = make_service(engine={"type": engine}, pools=[{"name": "all", "role": "mixed"}])
        worker = container(workers(mixed, "all"))
        assert "--disaggregation-mode" not in worker["args"]
        assert "cache_transceiver_config" not in json.dumps(worker["env"])


def test_a_checkpoint_on_a_claim_is_mounted_for_reading(make_service: MakeService) -> None:
    service = make_service(model={"source": {"path": None, "pvc": {"claimName": "models", "path": "llama"}}})
    deployment = workers(service, "decode")
    volume = deployment["spec"]["template"]["spec"]["volumes"][-1]
    assert volume["persistentVolumeClaim"] == {"claimName": "models", "readOnly": True}
    assert option(container(deployment)["args"], "--model") == "/models/llama"


def test_devices_are_requested_and_limited_beside_other_resources(make_service: MakeService) -> None:
    pool = {
        "name": "all",
        "role": "mixed",
        "accelerator": {"count": 2},
        "resources": {"limits": {"memory": "8Gi"}},
    }
    resources = container(workers(make_service(pools=[pool]), "all"))["resources"]
    assert resources == {
        "requests": {"nvidia.com/gpu": "2"},
        "limits": {"memory": "8Gi", "nvidia.com/gpu": "2"},
    }


def test_the_router_knows_its_service_and_its_objective(make_service: MakeService) -> None:
    made = everything(make_service(slo={"ttft": "300ms"}, router={"port": 9000}))
    router = next(
        each for each in made if each["kind"] == "Deployment" and each["metadata"]["name"] == "base-router"
    )
    arguments, env = container(router)["args"], {item["name"]: item for item in container(router)["env"]}
    assert container(router)["command"] == ["tandem", "router"]
    assert env["TANDEM_DISCOVERY"]["value"] == "kubernetes:default/base"
    assert (option(arguments, "--slo-ttft"), option(arguments, "--slo-tpot")) == ("300ms", "40ms")
    assert option(arguments, "--port") == "9000"
    service = next(each for each in made if each["kind"] == "Service")
    assert service["spec"]["ports"][0]["port"] == 9000


def test_the_router_is_told_of_settings_only_when_they_differ(make_service: MakeService) -> None:
    def arguments(**spec: Any) -> list[str]:
        made = everything(make_service(**spec))
        routers = (each for each in made if each["metadata"]["name"] == "base-router")
        found: list[str] = container(next(each for each in routers if each["kind"] == "Deployment"))["args"]
        return found

    assert "--settings" not in arguments(router={"queueing": {"order": "slack"}})
    told = option(
        arguments(
            classes=[{"name": "chat", "ttft": "200ms"}],
            router={"queueing": {"fairness": {}}, "disaggregation": {"mode": "always"}},
        ),
        "--settings",
    )
    assert json.loads(told) == {
        "classes": [{"name": "chat", "ttft": "200ms"}],
        "disaggregation": {"mode": "always"},
        "queueing": {"fairness": {}},
    }
    assert read_settings(told).queueing.fairness is not None


def test_clients_find_the_service_from_its_config_map(make_service: MakeService) -> None:
    settings = next(each for each in everything(make_service()) if each["kind"] == "ConfigMap")
    assert settings["data"] == {
        "OPENAI_BASE_URL": "http://base.default.svc:8000/v1",
        "OPENAI_MODEL": "recall",
    }


def test_the_router_may_only_read_pods(make_service: MakeService) -> None:
    role = next(each for each in everything(make_service()) if each["kind"] == "Role")
    assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]


def test_a_pool_is_self_contained(make_service: MakeService) -> None:
    pool = next(each for each in children(make_service(), IMAGES) if each["kind"] == "WorkerPool")
    assert pool["spec"]["engine"]["image"] == "reg/worker:1"
    assert pool["spec"]["connector"] == "native"


def test_nothing_that_is_applied_is_an_empty_list_or_mapping(sample: LLMService) -> None:
    def empty(value: Any, path: str) -> list[str]:
        if isinstance(value, dict):
            return [found for key, item in value.items() for found in empty(item, f"{path}.{key}")] or (
                [path] if not value and not path.endswith("emptyDir") else []
            )
        if isinstance(value, list):
            return [found for item in value for found in empty(item, f"{path}[]")] or (
                [] if value else [path]
            )
        return []

    assert [path for each in everything(sample) for path in empty(each, each["kind"])] == []


def revision(service: LLMService, images: Images = IMAGES) -> set[str]:
    made = children(service, images)
    return {each["spec"]["revision"] for each in made if each["kind"] == "WorkerPool"}


def test_pools_of_a_service_share_one_revision_so_that_they_pair(make_service: MakeService) -> None:
    assert len(revision(make_service())) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"pools": [{"name": "p", "role": "prefill", "replicas": 7}, {"name": "d", "role": "decode"}]},
        {"slo": {"ttft": "1s"}},
        {"router": {"replicas": 3}},
        {"autoscaling": {"interval": "1m"}},
    ],
)
def test_a_revision_outlives_scaling_and_objectives(
    make_service: MakeService, change: dict[str, Any]
) -> None:
    assert revision(make_service(**change)) == revision(make_service())


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"source": {"path": "models/other"}}},
        {"model": {"maxModelLen": 100}},
        {"engine": {"args": ["--block-size", "32"]}},
        {"engine": {"env": [{"name": "A", "value": "1"}]}},
        {"engine": {"image": "other:2"}},
    ],
)
def test_a_revision_ends_with_what_the_kv_depends_on(
    make_service: MakeService, change: dict[str, Any]
) -> None:
    assert revision(make_service(**change)) != revision(make_service())


def test_a_new_operator_image_is_a_new_revision(make_service: MakeService) -> None:
    assert revision(make_service(), Images(native="reg/worker:2")) != revision(make_service())


def test_scaling_leaves_the_pod_template_alone(make_service: MakeService) -> None:
    few = make_service(pools=[{"name": "all", "role": "mixed", "replicas": 1}])
    many = make_service(pools=[{"name": "all", "role": "mixed", "replicas": 9}])
    one, nine = workers(few, "all")["spec"], workers(many, "all")["spec"]
    assert (one.pop("replicas"), nine.pop("replicas")) == (1, 9)
    assert one == nine


def test_live_pools_keep_their_size(make_service: MakeService) -> None:
    made = children(make_service(), IMAGES, {"decode": LivePool(3, spec_replicas=1)})
    sizes = {each["spec"]["pool"]: each["spec"]["replicas"] for each in made if each["kind"] == "WorkerPool"}
    assert sizes == {"prefill": 1, "decode": 3}
