"""What the router has to know of a pool's workers stands on their pods, where it reads it."""

from collections.abc import Callable
from typing import Any

from tandem_operator.api import LLMService, WorkerPool
from tandem_operator.desired import children, pool_children
from tandem_operator.images import Images
from tandem_router.discovery.pods import endpoint_of
from tandem_router.types import Endpoint

IMAGES = Images(router="reg/router:1", native="reg/worker:1", vllm="reg/vllm:1")


def worker_of(service: LLMService) -> Endpoint:
    """The router's view of a pod of the only pool, on a node of zone b."""
    [pool] = (each for each in children(service, IMAGES) if each["kind"] == "WorkerPool")
    [deployment] = pool_children(WorkerPool.model_validate(pool))
    pod: dict[str, Any] = deployment["spec"]["template"]
    pod["metadata"]["name"] = "pod"
    pod["metadata"]["labels"]["topology.kubernetes.io/zone"] = "b"
    pod["status"] = {"podIP": "10.0.0.1"}
    found = endpoint_of(pod, "m")
    assert found is not None
    return found


def test_cost_devices_and_place_arrive_at_the_router(make_service: Callable[..., LLMService]) -> None:
    pool = {"name": "all", "role": "mixed", "cost": 4.5, "accelerator": {"count": 4, "product": "h200"}}
    zones = {"topologyKey": "topology.kubernetes.io/zone"}
    worker = worker_of(make_service(pools=[pool], kvTransfer=zones))
    assert (worker.cost, worker.gpu, worker.topology) == (4.5, "h200 x4", "b")
    assert worker.kv_port == 8200


def test_what_is_not_said_is_not_known(make_service: Callable[..., LLMService]) -> None:
    worker = worker_of(make_service(pools=[{"name": "all", "role": "mixed"}]))
    assert (worker.cost, worker.gpu, worker.topology) == (1.0, "", "")


def test_keys_of_a_secret_are_mounted_for_the_router(make_service: Callable[..., LLMService]) -> None:
    def pod_of(service: LLMService) -> dict[str, Any]:
        [deployment] = (each for each in children(service, IMAGES) if each["kind"] == "Deployment")
        spec: dict[str, Any] = deployment["spec"]["template"]["spec"]
        return spec

    pod = pod_of(make_service(router={"access": {"keysSecret": "team-keys"}}))
    [container] = pod["containers"]
    assert container["args"][-2:] == ["--api-keys", "/etc/tandem/access/keys.yaml"]
    assert {"name": "access", "secret": {"secretName": "team-keys"}} in pod["volumes"]
    mount = {"name": "access", "mountPath": "/etc/tandem/access", "readOnly": True}
    assert mount in container["volumeMounts"]
    plain = pod_of(make_service())
    assert "--api-keys" not in plain["containers"][0]["args"]
    assert [volume["name"] for volume in plain["volumes"]] == ["tmp"]
