"""What a user may set of the router: a part of the LLMService resource, and the router's settings file."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

Duration = Annotated[
    str,
    StringConstraints(
        pattern=r"^([1-9][0-9]{0,5}(\.[0-9]{1,3})?|0\.[0-9]{0,2}[1-9])(ms|s|m|h)$", max_length=16
    ),
]
Share = Annotated[float, Field(gt=0, lt=1)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=63)]


ModelName = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class Settings(BaseModel):
    """camelCase in YAML and JSON, snake_case in code, unknown fields refused, values immutable."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


class ServiceClass(Settings):
    """A latency tier that requests ask for by name."""

    name: Name
    ttft: Duration | None = Field(default=None, description="Objective for the first token.")
    tpot: Duration | None = Field(default=None, description="Objective per output token after the first.")
    deadline: Duration | None = Field(default=None, description="Objective for the whole answer.")
    priority: int = Field(default=0, ge=-100, le=100, description="Higher goes first.")
    sheddable: bool = Field(default=True, description="Refused at once when its objective cannot be met.")
    offline: bool = Field(default=False, description="Fills the room that other classes leave.")


class WeightedScorer(Settings):
    """A scorer by name; the weighted scores add up."""

    name: Name
    weight: float = Field(default=1.0, gt=0, le=1000)


DEFAULT_SCORERS = (
    WeightedScorer(name="predicted-latency", weight=1.0),
    WeightedScorer(name="prefix-match", weight=0.3),
    WeightedScorer(name="least-loaded", weight=0.2),
    WeightedScorer(name="prefix-affinity", weight=0.1),
)


class KvEvents(Settings):
    """Prefixes are matched exactly: by what workers tell of their caches, not by what was sent to them."""

    port: int = Field(default=5557, ge=1, le=65535, description="Where vLLM and SGLang publish their events.")
    replay_port: int = Field(default=5558, ge=1, le=65535, description="Where they send earlier ones again.")
    tokenizer: str | None = Field(
        default=None,
        max_length=4096,
        description="Folder in the router's container with the model's tokenizer.json and chat template;"
        " without it only prompts of token ids are matched exactly.",
    )


class Scheduling(Settings):
    """How workers are chosen, by the names of policies."""

    filters: tuple[Name, ...] = Field(default=(), max_length=16)
    scorers: tuple[WeightedScorer, ...] = Field(default=DEFAULT_SCORERS, max_length=16)
    picker: Name = "best"
    kv_events: KvEvents | None = None


class Disaggregation(Settings):
    """When a prompt is prefilled on another worker than the one that decodes."""

    mode: Literal["auto", "always", "never"] = Field(
        default="auto", description="Where that costs less by prediction; whenever there is a pair; never."
    )


class SeedProfile(Settings):
    """A latency profile for the workers of a model and GPU, to begin with; an empty name is any."""

    profile: str = Field(
        min_length=1,
        max_length=4096,
        description="A shipped profile, such as qwen3-8b/h200/tp1/bfloat16, or a JSON file in the router's"
        " container.",
    )
    model: str = Field(default="", max_length=256)
    gpu: str = Field(default="", max_length=63)


class Prediction(Settings):
    """What is believed of the workers' speed before the first request."""

    profiles: tuple[SeedProfile, ...] = Field(default=(), max_length=64)


class Fairness(Settings):
    """Tenants take turns by what they were served (virtual token counter)."""

    prompt_weight: float = Field(default=1.0, ge=0, le=1000, description="What a prompt token counts.")
    output_weight: float = Field(default=2.0, ge=0, le=1000, description="What an output token counts.")


class Lanes(Settings):
    """Long and short prompts wait apart, and some prefill workers take short ones only (LAPS)."""

    long_tokens: int = Field(
        default=4096, ge=1, le=16_777_216, description="A prompt of so many tokens is a long one."
    )
    short_share: Share = Field(default=0.5, description="Share of prefill workers that is for short prompts.")


class Urgent(Settings):
    """Prefill workers for requests that are about to miss their objective (Ascendra)."""

    share: Share = Field(default=0.25, description="Share of prefill workers that is kept for them.")
    slack: Share = Field(
        default=0.4, description="A request is urgent when less than this share of its objective is left."
    )


class Agents(Settings):
    """How many sessions run at once follows the cache: up in steps, down by a share (CONCUR)."""

    least: int = Field(default=4, ge=1, le=65536, description="Sessions that always may run.")
    most: int = Field(default=4096, ge=1, le=65536, description="Sessions that may run at the very most.")
    high_kv: Share = Field(default=0.9, description="More KV in use than this share is congestion.")
    low_hit: Share = Field(
        default=0.5, description="A session's later call with a smaller share of its prompt cached is too."
    )
    decrease: Share = Field(default=0.7, description="Congestion leaves this share of the sessions.")


class Offline(Settings):
    """How much room classes with `offline` may fill (HyGen)."""

    budget: Duration = Field(
        default="100ms", description="Prefill work of theirs that an online request may find before it."
    )
    decode_share: Share = Field(
        default=0.5, description="They join a decode worker while less than this share of it is taken."
    )


class Queueing(Settings):
    """How requests wait in the router, which are refused, and how much each worker is given."""

    order: Literal["slack", "arrival", "just-enough"] = Field(
        default="slack",
        description="Least slack first; first come, first served; or least slack among as many as can be met"
        " (JITServe).",
    )
    ageing: Duration = Field(
        default="10s", description="One step of a class's priority is worth this much waiting."
    )
    fairness: Fairness | None = None
    programs: bool = Field(
        default=False, description="A session's next call keeps the place of its first (Continuum)."
    )
    lanes: Lanes | None = None
    urgent: Urgent | None = None
    agents: Agents | None = None
    offline: Offline = Offline()
    prefill_ahead: Duration = Field(
        default="250ms", description="Prefill work that a worker is given at a time; the rest waits here."
    )
    decodes: int = Field(
        default=256, ge=1, le=65536, description="Answers under way that a worker is given at a time."
    )
    kv_used: Share = Field(
        default=0.95, description="A decode worker that uses more of its KV gets no more requests."
    )
    max_waiting: int = Field(
        default=2048, ge=0, le=1_000_000, description="Requests of a class that may wait; more get a 429."
    )
    max_waiting_bytes: int = Field(
        default=256 * 2**20, ge=0, le=2**40, description="Bytes of their bodies; more get a 429."
    )
    pod_start: Duration = Field(
        default="30s", description="Retry-After of requests that come while there is no worker."
    )


class Recovery(Settings):
    """What the router does about workers that fail."""

    migration: bool = Field(
        default=True,
        description="Streams whose decode worker is lost go on elsewhere, where that is exact.",
    )
    stall: Duration = Field(
        default="30s", description="A stream without a token for so long has lost its worker."
    )
    failures_in_a_row: int = Field(
        default=5,
        ge=1,
        le=1000,
        description="After so many a worker gets no requests for a while.",
    )
    max_ejected: Share = Field(
        default=0.5, description="Share of a pool that may be ejected for being worse than the rest of it."
    )
    hedge: Share | None = Field(
        default=None,
        description="A prefill slower than this share of the recent ones is sent to a second worker.",
    )


class ModelShare(Settings):
    """A model or adapter behind an alias, with its part of the requests."""

    model: ModelName
    weight: float = Field(default=1.0, gt=0, le=1000)


class ModelAlias(Settings):
    """Another name to ask for; sessions stay with the model that they were given."""

    name: ModelName
    models: tuple[ModelShare, ...] = Field(min_length=1, max_length=16)


class Adapter(Settings):
    """A LoRA adapter that the workers of `model` have loaded under this name."""

    name: ModelName
    model: ModelName


class Access(Settings):
    """Who may ask for what, and by which names."""

    keys_secret: Name | None = Field(
        default=None, description="A Secret whose keys.yaml says which API keys are good (docs/access.md)."
    )
    aliases: tuple[ModelAlias, ...] = Field(
        default=(), max_length=64, json_schema_extra={"x-key": "name"}, description="More names of models."
    )
    adapters: tuple[Adapter, ...] = Field(
        default=(), max_length=256, json_schema_extra={"x-key": "name"}, description="LoRA adapters."
    )
    cache_salt: bool = Field(
        default=True, description="Tenants with keys do not share prefix caches (cache_salt)."
    )


class RouterSettings(Settings):
    """Everything of the router that is not an address or a time of its process."""

    classes: tuple[ServiceClass, ...] = Field(default=(), max_length=32, json_schema_extra={"x-key": "name"})
    scheduling: Scheduling = Scheduling()
    disaggregation: Disaggregation = Disaggregation()
    prediction: Prediction = Prediction()
    queueing: Queueing = Queueing()
    recovery: Recovery = Recovery()
    access: Access = Access()
