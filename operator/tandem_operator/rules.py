"""Rules across fields, each twice: CEL for API servers that know it, Python for the operator."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from tandem_operator.api import (
    Connector,
    EngineType,
    EnvVar,
    LLMService,
    LLMServiceSpec,
    ModelSource,
    PersistentVolumeClaimSource,
    Pool,
    WorkerPoolSpec,
)
from tandem_wire.router_settings import Agents, ServiceClass

MAX_NAME = 40
SPEAKERS: Mapping[Connector, tuple[EngineType, ...]] = {
    "native": ("native",),
    "nixl": ("vllm", "sglang", "trtllm"),
    "nixl-push": ("vllm",),
    "mooncake": ("vllm", "sglang"),
    "ucx": ("trtllm",),
}
"""Which engines hand over by which connector."""
RESERVED_ENV = ("POD_IP", "POD_NAME")


@dataclass(frozen=True, slots=True)
class Rule:
    """What must hold for every value of one type. `field` is where the user should look, below that value."""

    message: str
    cel: str
    holds: Callable[[Any], bool]
    field: str = ""


def _ordered(low: int | None, high: int | None) -> bool:
    return low is None or high is None or low <= high


def _complete(spec: LLMServiceSpec) -> bool:
    roles = {pool.role for pool in spec.pools}
    return "mixed" in roles or roles >= {"prefill", "decode"}


def _scalable(spec: LLMServiceSpec) -> bool:
    bounded = all((pool.min_replicas or 0) >= 1 and pool.max_replicas is not None for pool in spec.pools)
    return spec.autoscaling.mode != "slo" or bounded


def _inside(claim: PersistentVolumeClaimSource) -> bool:
    return not claim.path.startswith("/") and ".." not in claim.path.split("/")


def _spoken_by(connector: Connector, engines: tuple[EngineType, ...]) -> Rule:
    return Rule(
        f"connector {connector} needs engine type {' or '.join(engines)}",
        f"self.kvTransfer.connector != '{connector}' || self.engine.type in {list(engines)}",
        lambda spec: spec.kv_transfer.connector != connector or spec.engine.type in engines,
        "kvTransfer.connector",
    )


_BOUNDS = (
    Rule(
        "replicas must not be less than minReplicas",
        "!has(self.minReplicas) || self.minReplicas <= self.replicas",
        lambda pool: _ordered(pool.min_replicas, pool.replicas),
        "replicas",
    ),
    Rule(
        "replicas must not be greater than maxReplicas",
        "!has(self.maxReplicas) || self.replicas <= self.maxReplicas",
        lambda pool: _ordered(pool.replicas, pool.max_replicas),
        "replicas",
    ),
)

RULES: Mapping[type[BaseModel], tuple[Rule, ...]] = {
    LLMService: (
        Rule(
            f"the name must be at most {MAX_NAME} of a-z, 0-9 and -, start with a letter and not end with -",
            f"self.metadata.name.matches('^[a-z]([a-z0-9-]*[a-z0-9])?$')"
            f" && size(self.metadata.name) <= {MAX_NAME}",
            lambda service: _is_name(service.metadata.name),
            "metadata.name",
        ),
    ),
    ModelSource: (
        Rule(
            "give exactly one of path and pvc",
            "has(self.path) != has(self.pvc)",
            lambda source: (source.path is None) != (source.pvc is None),
        ),
    ),
    PersistentVolumeClaimSource: (
        Rule(
            "path is relative to the claim's root and must stay inside it",
            "!has(self.path) || (!self.path.startsWith('/') && !self.path.matches('(^|/)[.][.](/|$)'))",
            _inside,
            "path",
        ),
    ),
    EnvVar: (
        Rule(
            "POD_IP, POD_NAME and names that start with TANDEM_ are the operator's",
            "!(self.name in ['POD_IP', 'POD_NAME']) && !self.name.startsWith('TANDEM_')",
            lambda variable: variable.name not in RESERVED_ENV and not variable.name.startswith("TANDEM_"),
            "name",
        ),
    ),
    Pool: (
        *_BOUNDS,
        Rule(
            "the name router is taken by the router",
            "self.name != 'router'",
            lambda pool: pool.name != "router",
            "name",
        ),
    ),
    LLMServiceSpec: (
        Rule(
            "pools need one of role mixed, or one of role prefill and one of role decode",
            "self.pools.exists(p, p.role == 'mixed') || (self.pools.exists(p, p.role == 'prefill')"
            " && self.pools.exists(p, p.role == 'decode'))",
            _complete,
            "pools",
        ),
        *(_spoken_by(connector, engines) for connector, engines in SPEAKERS.items()),
        Rule(
            "mode slo needs minReplicas of at least 1 and maxReplicas in every pool",
            "self.autoscaling.mode != 'slo' || self.pools.all(p,"
            " has(p.minReplicas) && p.minReplicas >= 1 && has(p.maxReplicas))",
            _scalable,
            "autoscaling.mode",
        ),
    ),
    WorkerPoolSpec: _BOUNDS,
    ServiceClass: (
        Rule(
            "an offline class fills room: it has no objective for single tokens (ttft, tpot)",
            "!self.offline || (!has(self.ttft) && !has(self.tpot))",
            lambda tier: not tier.offline or (tier.ttft is None and tier.tpot is None),
            "offline",
        ),
    ),
    Agents: (
        Rule(
            "least must not be greater than most",
            "self.least <= self.most",
            lambda agents: agents.least <= agents.most,
            "least",
        ),
    ),
}


def _is_name(name: str) -> bool:
    letters = name.replace("-", "")
    plain = letters.isascii() and letters.isalnum() and name == name.lower()
    return plain and name[0].isalpha() and not name.endswith("-") and len(name) <= MAX_NAME
