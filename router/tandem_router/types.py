"""The router's vocabulary: workers, requests, load and choices. Values only."""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    PREFILL = "prefill"
    DECODE = "decode"
    MIXED = "mixed"


class Path(StrEnum):
    """How a request was served; the value of `x-tandem-path`."""

    DISAGGREGATED = "disaggregated"
    LOCAL = "local"
    FALLBACK = "fallback"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One worker. `name` is unique; `revision` is its rollout: only workers of one revision may hand over.

    `gpu` and `topology` (a zone, rack or host) may be unknown; `cost` is relative, per worker and hour.
    """

    name: str
    address: str
    port: int
    role: Role
    pool: str
    engine: str
    model: str
    revision: str
    ready: bool = True
    gpu: str = ""
    topology: str = ""
    cost: float = 1.0


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """What a policy may know of a request. `prompt_tokens` is an estimate: the router does not tokenise.

    `prefix` holds chained hashes of the prompt's leading blocks of text: equal prompts share their first ones.
    `session` names a conversation or an agent's program, `adapter` a LoRA adapter; empty is none.
    """

    request_id: str
    model: str
    prompt_tokens: int
    stream: bool
    max_tokens: int | None = None
    service_class: str = "default"
    tenant: str = ""
    session: str = ""
    adapter: str = ""
    prefix: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Load:
    """What this router has in flight on one worker: requests, and their prompt tokens."""

    requests: int = 0
    tokens: int = 0


IDLE = Load()


@dataclass(frozen=True, slots=True)
class Pair:
    """Where a request could run. `prefill` None: both phases on `decode`."""

    prefill: Endpoint | None
    decode: Endpoint

    @property
    def workers(self) -> tuple[Endpoint, ...]:
        return (self.decode,) if self.prefill is None else (self.prefill, self.decode)


@dataclass(frozen=True, slots=True)
class Choice:
    """The pair that was chosen, and why."""

    prefill: Endpoint | None
    decode: Endpoint
    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class NoChoice:
    """No worker can take the request; `reason` is machine-readable."""

    reason: str


@dataclass(frozen=True, slots=True)
class Constraint:
    """What earlier attempts of a request rule out.

    `avoid`: workers that failed by themselves, never taken again.
    `shun`: workers of a pair that failed together, either may be to blame: taken if nothing else is left.
    `local_only`: no hand-over any more.
    """

    avoid: frozenset[str] = frozenset()
    shun: frozenset[str] = frozenset()
    local_only: bool = False


UNCONSTRAINED = Constraint()
