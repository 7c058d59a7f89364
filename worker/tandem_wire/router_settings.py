"""What a user may set of the router: a part of the LLMService resource, and the router's own settings file."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

Duration = Annotated[str, StringConstraints(pattern=r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$", max_length=16)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=63)]


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


class Scheduling(Settings):
    """How workers are chosen, by the names of policies."""

    filters: tuple[Name, ...] = Field(default=(), max_length=16)
    scorers: tuple[WeightedScorer, ...] = Field(default=(WeightedScorer(name="least-loaded"),), max_length=16)
    picker: Name = "best"


class Disaggregation(Settings):
    """When a prompt is prefilled on another worker than the one that decodes."""

    mode: Literal["auto", "always", "never"] = "auto"


class Queueing(Settings):
    """How requests wait in the router, and which are refused."""


class Recovery(Settings):
    """What the router does about workers that fail."""


class Access(Settings):
    """Who may ask for what."""


class RouterSettings(Settings):
    """Everything of the router that is not an address or a time of its process."""

    classes: tuple[ServiceClass, ...] = Field(default=(), max_length=32, json_schema_extra={"x-key": "name"})
    scheduling: Scheduling = Scheduling()
    disaggregation: Disaggregation = Disaggregation()
    queueing: Queueing = Queueing()
    recovery: Recovery = Recovery()
    access: Access = Access()
