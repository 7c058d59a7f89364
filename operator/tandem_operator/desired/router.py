"""The router of a service: its Deployment, its Service, what it may read, and its clients' settings."""

from tandem_operator.api import LLMService, LLMServiceSpec, Manifest
from tandem_operator.desired import pods
from tandem_operator.desired.names import labels, metadata, router_name, selector
from tandem_operator.images import Images

# kube-proxy needs a moment to take an ending router out of the Service; until then it goes on serving.
LEAVE_SECONDS = 5
GRACE_SECONDS = 60
LOOPBACK = "127.0.0.1"
ACCESS = "/etc/tandem/access"
KEYS = f"{ACCESS}/keys.yaml"


def router_children(service: LLMService, images: Images) -> list[Manifest]:
    """In the order in which they are needed."""
    return [*_identity(service), _deployment(service, images), _service(service), _client_settings(service)]


def url(service: LLMService) -> str:
    """Where OpenAI clients in the cluster find the service, without the `/v1`."""
    meta = service.metadata
    return f"http://{meta.name}.{meta.namespace}.svc:{service.spec.router.port}"


def _meta(service: LLMService, name: str) -> Manifest:
    return metadata(service, name, labels(service.metadata.name, "router"))


def _identity(service: LLMService) -> list[Manifest]:
    name = router_name(service.metadata.name)
    group = "rbac.authorization.k8s.io"
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _meta(service, name)},
        {
            "apiVersion": f"{group}/v1",
            "kind": "Role",
            "metadata": _meta(service, name),
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}],
        },
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": _meta(service, name),
            "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": service.metadata.namespace}],
        },
    ]


def _service(service: LLMService) -> Manifest:
    port = service.spec.router.port
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _meta(service, service.metadata.name),
        "spec": {
            "type": "ClusterIP",
            "selector": selector(service.metadata.name, "router"),
            "ports": [{"name": "http", "port": port, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def _client_settings(service: LLMService) -> Manifest:
    """`envFrom` this, and an OpenAI client needs no other configuration."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _meta(service, f"{service.metadata.name}-client"),
        "data": {"OPENAI_BASE_URL": f"{url(service)}/v1", "OPENAI_MODEL": service.spec.model.name},
    }


def _deployment(service: LLMService, images: Images) -> Manifest:
    name = service.metadata.name
    template: Manifest = {
        "metadata": {
            "labels": labels(name, "router"),
            "annotations": pods.scrape(service.spec.router.port),
        },
        "spec": {
            "serviceAccountName": router_name(service.metadata.name),
            "enableServiceLinks": False,
            "securityContext": pods.pod_security(),
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "containers": [_container(service, images)],
            "volumes": [{"name": "tmp", "emptyDir": {}}, *_key_volumes(service)],
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _meta(service, router_name(service.metadata.name)),
        "spec": pods.deployment_spec(
            replicas=service.spec.router.replicas, selector=selector(name, "router"), template=template
        ),
    }


def _container(service: LLMService, images: Images) -> Manifest:
    meta = service.metadata
    return {
        "name": "router",
        "image": service.spec.router.image or images.router,
        "command": ["tandem", "router"],
        "args": _arguments(service),
        "env": pods.env({"TANDEM_DISCOVERY": f"kubernetes:{meta.namespace}/{meta.name}"}),
        "ports": pods.ports({"http": service.spec.router.port}),
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
        "startupProbe": pods.probe("/healthz", period=1, failures=60),
        "livenessProbe": pods.probe("/healthz", period=10, failures=6, timeout=5),
        "readinessProbe": pods.probe("/readyz", period=2, failures=2),
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(LEAVE_SECONDS)]}}},
        "securityContext": pods.container_security(),
        "volumeMounts": [{"name": "tmp", "mountPath": pods.TMP}, *_key_mounts(service)],
    }


def _key_volumes(service: LLMService) -> list[Manifest]:
    secret = service.spec.router.access.keys_secret
    return [] if secret is None else [{"name": "access", "secret": {"secretName": secret}}]


def _key_mounts(service: LLMService) -> list[Manifest]:
    mount = {"name": "access", "mountPath": ACCESS, "readOnly": True}
    return [mount] if service.spec.router.access.keys_secret is not None else []


def _arguments(service: LLMService) -> list[str]:
    spec = service.spec
    return [
        # Loopback is where `kubectl port-forward` arrives.
        *("--host", pods.POD_IP, "--host", LOOPBACK, "--port", str(spec.router.port)),
        *("--model", spec.model.name),
        *("--service", service.metadata.name, "--slo-ttft", spec.slo.ttft, "--slo-tpot", spec.slo.tpot),
        *_settings(spec),
        *(() if spec.router.access.keys_secret is None else ("--api-keys", KEYS)),
    ]


def _settings(spec: LLMServiceSpec) -> list[str]:
    """Only what differs from the router's own defaults."""
    told = spec.router_settings().model_dump_json(by_alias=True, exclude_defaults=True)
    return [] if told == "{}" else ["--settings", told]
