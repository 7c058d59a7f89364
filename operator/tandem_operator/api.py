"""The resources of `tandemserve.dev/v1alpha1`: what a user may write, its limits and its defaults."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from tandem_operator.units import DURATION, POSITIVE_DURATION, QUANTITY
from tandem_wire.router_settings import (
    Access,
    Disaggregation,
    Prediction,
    Queueing,
    Recovery,
    RouterSettings,
    Scheduling,
    ServiceClass,
)

GROUP = "tandemserve.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

MAX_REPLICAS = 1000
MAX_POOLS = 16

Role = Literal["prefill", "decode", "mixed"]
EngineType = Literal["native", "vllm", "sglang", "trtllm"]
Connector = Literal["native", "nixl", "nixl-push", "mooncake", "ucx"]
Manifest = dict[str, Any]

Duration = Annotated[str, StringConstraints(pattern=DURATION, max_length=16)]
PositiveDuration = Annotated[str, StringConstraints(pattern=POSITIVE_DURATION, max_length=16)]
Quantity = Annotated[str, StringConstraints(pattern=QUANTITY, max_length=32)] | Annotated[int, Field(ge=0)]
Replicas = Annotated[int, Field(ge=0, le=MAX_REPLICAS)]
Argument = Annotated[str, StringConstraints(max_length=4096)]
Arguments = Annotated[tuple[Argument, ...], Field(max_length=64)]
Image = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._/:@-]*$", max_length=512)]
DnsLabel = Annotated[str, StringConstraints(pattern=r"^[a-z]([a-z0-9-]*[a-z0-9])?$", max_length=20)]
ResourceName = Annotated[
    str, StringConstraints(pattern=r"^([a-z0-9.-]+/)?[a-zA-Z0-9][a-zA-Z0-9._-]*$", max_length=128)
]


class Api(BaseModel):
    """camelCase in YAML, snake_case in code, unknown fields refused, values immutable."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    def manifest(self) -> Manifest:
        """As it stands in YAML, without the fields that are unset."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class PersistentVolumeClaimSource(Api):
    """A checkpoint folder on a PersistentVolumeClaim in the service's namespace."""

    claim_name: str = Field(min_length=1, max_length=253, description="The claim that holds the checkpoint.")
    path: str = Field(
        default="",
        max_length=1024,
        description="Folder of the checkpoint inside the claim; empty is its root.",
    )


class ModelSource(Api):
    """Where the checkpoint is: exactly one of the fields."""

    path: str | None = Field(
        default=None,
        min_length=1,
        max_length=1024,
        description="A folder in the worker's image; a relative one starts at its working directory.",
    )
    pvc: PersistentVolumeClaimSource | None = None


class Model(Api):
    """The model to serve."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:-]*$",
        max_length=128,
        description="The name that clients send in `model`.",
    )
    source: ModelSource
    max_model_len: int | None = Field(
        default=None,
        ge=1,
        le=16_777_216,
        description="Longest prompt plus answer, in tokens; the model's own limit if absent.",
    )


class EnvVar(Api):
    """One environment variable of a container."""

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)
    value: str = Field(default="", max_length=8192)


class Engine(Api):
    """The program that runs the model in every worker."""

    type: EngineType = Field(
        default="native", description="`native` is Tandem's own worker; `trtllm` is TensorRT-LLM."
    )
    image: Image | None = Field(
        default=None, description="The workers' image; the operator's default if absent."
    )
    args: Arguments = Field(default=(), description="More arguments for every worker.")
    env: tuple[EnvVar, ...] = Field(
        default=(),
        max_length=64,
        description="More environment for every worker.",
        json_schema_extra={"x-key": "name"},
    )


class Slo(Api):
    """The latency objective that the service is held to."""

    ttft: PositiveDuration = Field(default="500ms", description="Time to the first token.")
    tpot: PositiveDuration = Field(default="40ms", description="Time per output token after the first.")
    attainment: float = Field(
        default=0.95, ge=0.01, le=1, description="The share of requests that has to meet both."
    )


class Accelerator(Api):
    """Devices of each worker, as an extended resource."""

    resource: ResourceName = Field(default="nvidia.com/gpu", description="The extended resource's name.")
    count: int = Field(default=1, ge=1, le=64, description="Devices a worker.")
    product: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$",
        max_length=48,
        description="What they are, such as h200: the router learns the speed of each kind by itself.",
    )


class Resources(Api):
    """Requests and limits of each worker, as in a container."""

    requests: dict[str, Quantity] = Field(default_factory=dict, max_length=16)
    limits: dict[str, Quantity] = Field(default_factory=dict, max_length=16)


class Pool(Api):
    """Workers of one role that are scaled together."""

    name: DnsLabel = Field(description="Unique in the service; the WorkerPool is `<service>-<name>`.")
    role: Role = Field(description="`prefill`, `decode`, or `mixed` for workers that do both.")
    replicas: Replicas = Field(
        default=1, description="Workers at creation, and again whenever this is changed."
    )
    min_replicas: Replicas | None = Field(default=None, description="Nothing scales the pool below this.")
    max_replicas: Replicas | None = Field(default=None, description="Nothing scales the pool above this.")
    accelerator: Accelerator | None = None
    cost: float = Field(
        default=1.0, ge=0, le=1_000_000, description="Of one worker and hour, in any unit that pools share."
    )
    resources: Resources | None = None
    args: Arguments = Field(
        default=(), description="More arguments for this pool's workers, after the engine's."
    )


class KvTransfer(Api):
    """How the KV cache moves from a prefill to a decode worker."""

    connector: Literal["auto", "native", "nixl", "nixl-push", "mooncake", "ucx"] = Field(
        default="auto",
        description="`auto` takes what the engine prefers: native; nixl for vLLM and TensorRT-LLM; mooncake"
        " for SGLang. vLLM also has nixl-push and mooncake, SGLang nixl, TensorRT-LLM ucx.",
    )
    topology_key: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$",
        max_length=253,
        description="Label that says where a worker is, such as topology.kubernetes.io/zone. The router reads"
        " it from the pods; of pods without it, it takes the node. For scorer near and filter only-near.",
    )


class Router(Api):
    """The router in front of the workers."""

    replicas: int = Field(default=1, ge=1, le=100)
    port: int = Field(default=8000, ge=1024, le=65535, description="Port of the router and of its Service.")
    image: Image | None = Field(default=None, description="The operator's default if absent.")
    scheduling: Scheduling = Scheduling()
    disaggregation: Disaggregation = Disaggregation()
    prediction: Prediction = Prediction()
    queueing: Queueing = Queueing()
    recovery: Recovery = Recovery()
    access: Access = Access()


class Cooldown(Api):
    """The least time between two changes of a pool in the same direction."""

    up: Duration = "15s"
    down: Duration = "60s"


class Autoscaling(Api):
    """Whether and how the pools follow the load."""

    mode: Literal["manual", "slo"] = Field(
        default="manual", description="`manual` leaves the pools alone; `slo` sizes them for the objective."
    )
    prometheus: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s/]+",
        max_length=2048,
        description="Base URL of Prometheus; without it the operator reads the pods' metrics itself.",
    )
    interval: PositiveDuration = Field(default="15s", description="Time between two decisions.")
    cooldown: Cooldown = Cooldown()


class LLMServiceSpec(Api):
    """One model served with prefill and decode on separate pools."""

    model: Model
    engine: Engine = Engine()
    slo: Slo = Slo()
    classes: tuple[ServiceClass, ...] = Field(
        default=(),
        max_length=32,
        json_schema_extra={"x-key": "name"},
        description="More latency tiers; requests name theirs in the header x-tandem-class. Class `default`"
        " is `slo`, unless it is described here.",
    )
    pools: tuple[Pool, ...] = Field(
        min_length=1, max_length=MAX_POOLS, json_schema_extra={"x-key": "name"}, description="The workers."
    )
    kv_transfer: KvTransfer = KvTransfer()
    router: Router = Router()
    autoscaling: Autoscaling = Autoscaling()

    def router_settings(self) -> RouterSettings:
        """What the router is told beside its addresses and its model."""
        router = self.router
        return RouterSettings(
            classes=self.classes,
            scheduling=router.scheduling,
            disaggregation=router.disaggregation,
            prediction=router.prediction,
            queueing=router.queueing,
            recovery=router.recovery,
            access=router.access,
        )


class WorkerPoolSpec(Api):
    """Everything that the workers of one pool need. The operator writes it; only `replicas` is for others."""

    service: str = Field(
        min_length=1, max_length=63, description="The LLMService that the workers belong to."
    )
    pool: DnsLabel = Field(description="The pool's name in that service.")
    role: Role = Field(description="What these workers do: prefill, decode, or both (`mixed`).")
    replicas: Replicas = Field(default=1, description="Workers wanted; `kubectl scale pool/...` sets it.")
    min_replicas: Replicas | None = Field(default=None, description="The least that `replicas` may be.")
    max_replicas: Replicas | None = Field(default=None, description="The most that `replicas` may be.")
    model: Model
    engine: Engine
    connector: Connector = Field(description="How the KV cache moves to and from these workers.")
    topology_key: str | None = Field(default=None, max_length=253, description="As in the service.")
    accelerator: Accelerator | None = None
    cost: float = Field(default=1.0, ge=0, le=1_000_000, description="Of one worker and hour.")
    resources: Resources | None = None
    args: Arguments = Field(default=(), description="Arguments after the engine's.")
    revision: str = Field(
        pattern=r"^[a-z0-9]+$", max_length=63, description="Equal for workers that may hand KV to each other."
    )


class Condition(Api):
    """A condition as in `metav1.Condition`."""

    type: str = Field(max_length=316)
    status: Literal["True", "False", "Unknown"]
    reason: str = Field(max_length=1024)
    message: str = Field(default="", max_length=32768)
    last_transition_time: str = Field(max_length=64, json_schema_extra={"format": "date-time"})
    observed_generation: int = Field(default=0, ge=0)


class PoolStatus(Api):
    """Counts of one pool."""

    name: str
    role: Role
    desired: int = 0
    replicas: int = 0
    ready: int = 0
    updated: int = 0


class Readiness(Api):
    """`ready/desired` workers by role, for people."""

    prefill: str | None = None
    decode: str | None = None
    mixed: str | None = None


class AutoscalingStatus(Api):
    """The planner's last decision."""

    last_decision: str = Field(max_length=1024, description="What it set, such as `prefill 2 -> 3`.")
    reason: str = Field(max_length=1024, description="Why.")
    time: str = Field(max_length=64, json_schema_extra={"format": "date-time"})


class LLMServiceStatus(Api):
    """What the operator sees."""

    observed_generation: int = 0
    url: str | None = Field(default=None, description="Base URL for OpenAI clients inside the cluster.")
    readiness: Readiness = Readiness()
    pools: tuple[PoolStatus, ...] = Field(default=(), json_schema_extra={"x-key": "name"})
    autoscaling: AutoscalingStatus | None = None
    conditions: tuple[Condition, ...] = Field(default=(), json_schema_extra={"x-key": "type"})


class WorkerPoolStatus(Api):
    """What the operator sees."""

    observed_generation: int = 0
    replicas: int = 0
    ready: int = 0
    updated: int = 0
    selector: str = Field(
        default="", description="Label selector of the workers, for `scale` and autoscalers."
    )
    conditions: tuple[Condition, ...] = Field(default=(), json_schema_extra={"x-key": "type"})


class ObjectMeta(BaseModel):
    """The part of an object's metadata that Tandem reads."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)

    name: str
    namespace: str = "default"
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class LLMService(Api):
    """A model, the pools that serve it and the latency objective they are held to."""

    model_config = ConfigDict(extra="ignore")

    api_version: Literal["tandemserve.dev/v1alpha1"] = "tandemserve.dev/v1alpha1"
    kind: Literal["LLMService"] = "LLMService"
    metadata: ObjectMeta
    spec: LLMServiceSpec


class WorkerPool(Api):
    """The workers of one pool. Made by the operator; scale it with `kubectl scale pool/NAME --replicas N`."""

    model_config = ConfigDict(extra="ignore")

    api_version: Literal["tandemserve.dev/v1alpha1"] = "tandemserve.dev/v1alpha1"
    kind: Literal["WorkerPool"] = "WorkerPool"
    metadata: ObjectMeta
    spec: WorkerPoolSpec
