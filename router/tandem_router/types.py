"""The router's vocabulary: workers, requests, load and choices. Values only."""

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from tandem_router.values import quick


class Role(StrEnum):
    PREFILL = "prefill"
    DECODE = "decode"
    MIXED = "mixed"


class Path(StrEnum):
    """How a request was served; the value of `x-tandem-path`."""

    DISAGGREGATED = "disaggregated"
    LOCAL = "local"
    FALLBACK = "fallback"


@quick
@dataclass(frozen=True, slots=True)
class Endpoint:
    """One worker. `name` is unique; `revision` is its rollout: only workers of one revision may hand over.

    `gpu` and `topology` (a zone, rack or host) may be unknown; `cost` is relative, per worker and hour.
    `bootstrap_port` is where decode workers find a prefill worker; 0 is the engine's usual one. `kv_port` is
    that of the native worker's gRPC service; 0 is none.
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
    bootstrap_port: int = 0
    kv_port: int = 0


@quick
@dataclass(frozen=True, slots=True)
class RequestInfo:
    """What a policy may know of a request. `prompt_tokens` is an estimate from the body's `prompt_bytes`, or
    counted, where that is 0: the router does not tokenise.

    `prefix` holds chained hashes of the prompt's leading blocks of text: equal prompts share the first ones.
    `session` names a conversation or an agent's program, `adapter` a LoRA adapter; empty is none.
    `token_ids` are known only where caches are matched exactly; prompts of different `salt` share no cache.
    `needs_local` names what is asked for that the engine cannot do over a hand-over; empty is nothing.
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
    needs_local: str = ""
    salt: str = ""
    prompt_bytes: int = 0
    token_ids: tuple[int, ...] = field(default=(), repr=False, compare=False)


@quick
@dataclass(frozen=True, slots=True)
class Load:
    """What this router has in flight on one worker: requests, and their prompt tokens."""

    requests: int = 0
    tokens: int = 0


IDLE = Load()


@quick
@dataclass(frozen=True, slots=True)
class Report:
    """What one worker last said of itself. None is what its engine does not tell.

    `kv_used` is the share of KV blocks in use, 0 to 1; `kv_tokens` how many tokens fit in all of them;
    `backlog_tokens` the prompt tokens that it took on and has not computed yet. `fresh`: not overdue.
    """

    running: int = 0
    waiting: int = 0
    backlog_tokens: int | None = None
    kv_used: float | None = None
    kv_tokens: int | None = None
    adapters: frozenset[str] | None = None
    draining: bool = False
    fresh: bool = True


class Pair(NamedTuple):
    """Where a request could run. `prefill` None: both phases on `decode`."""

    prefill: Endpoint | None
    decode: Endpoint

    @property
    def workers(self) -> tuple[Endpoint, ...]:
        return (self.decode,) if self.prefill is None else (self.prefill, self.decode)


@quick
@dataclass(frozen=True, slots=True)
class Prediction:
    """What a pair would give a request, in seconds. `queue`, `prefill` and `transfer` are parts of `ttft`.

    `interference`: how long all streams together stand still on the worker that computes the prompt.
    """

    ttft: float
    tpot: float
    transfer: float = 0.0
    queue: float = 0.0
    prefill: float = 0.0
    interference: float = 0.0

    @property
    def cost(self) -> float:
        """The wait of this request and of the streams that it holds up."""
        return self.ttft + self.interference


class Objective(NamedTuple):
    """What the requests of a class are promised, in seconds; infinite where nothing is."""

    ttft: float = math.inf
    tpot: float = math.inf


@quick
@dataclass(frozen=True, slots=True)
class Choice:
    """The pair that was chosen, and why."""

    prefill: Endpoint | None
    decode: Endpoint
    path: Path
    reason: str


@quick
@dataclass(frozen=True, slots=True)
class NoChoice:
    """No worker can take the request; `reason` is machine-readable. BUSY: some could, if they had room."""

    reason: str


BUSY = "busy"


@quick
@dataclass(frozen=True, slots=True)
class Constraint:
    """What earlier attempts of a request rule out, and who has no room.

    `avoid`: workers that failed by themselves, never taken again.
    `shun`: workers of a pair that failed together, either may be to blame: taken if nothing else is left.
    `local_only`: no hand-over any more. `held`: the prefill worker that holds the prompt's KV already, so
    only hand-overs from it are of use; empty is none. `full`: workers without room, to be waited for.
    """

    avoid: frozenset[str] = frozenset()
    shun: frozenset[str] = frozenset()
    local_only: bool = False
    held: str = ""
    full: frozenset[str] = frozenset()


UNCONSTRAINED = Constraint()
