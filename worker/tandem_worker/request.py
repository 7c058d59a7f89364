"""The worker's vocabulary: what a request asks for and what a step gives back. No torch."""

from dataclasses import dataclass, field
from enum import StrEnum


class FinishReason(StrEnum):
    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to choose tokens. Greedy: `temperature` 0. Off: `top_k` 0, `top_p` 1. `seed` None is random.

    `num_logprobs` None: no log-probabilities; n >= 0: of the sampled token and the n most likely ones.
    Stop strings are the server's concern: the engine knows only `stop_token_ids`.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    stop_token_ids: frozenset[int] = frozenset()
    ignore_eos: bool = False
    num_logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Natural-log probabilities of one output position, after penalties and temperature are left out."""

    sampled: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt to run. `hold_kv`: keep its blocks under a handle when it finishes (the prefill leg).

    `num_resumed`: the last tokens of the prompt are output of another worker, and sampling goes on after it.
    Prompts share cached blocks only with those of the same `cache_salt`.
    """

    request_id: str
    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParams
    hold_kv: bool = False
    num_resumed: int = 0
    cache_salt: str = ""


@dataclass(frozen=True, slots=True)
class SampledToken:
    """A new token and, when asked for, its log-probabilities."""

    token_id: int
    logprobs: TokenLogprobs | None = None


SeedToken = SampledToken
"""The first output token, sampled by the prefill worker: the decode worker goes on after it."""


@dataclass(frozen=True, slots=True)
class StepOutput:
    """One new token of one sequence. `num_cached_tokens`: prompt tokens that were not computed here."""

    request_id: str
    token_id: int
    logprobs: TokenLogprobs | None
    finish_reason: FinishReason | None
    num_cached_tokens: int


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """Room for KV from another worker: fill `block_ids`, the prompt's blocks from `first_block` on.

    Blocks before `first_block` were found in the local prefix cache.
    """

    request_id: str
    block_ids: tuple[int, ...]
    first_block: int


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """What the engine holds now."""

    num_running: int = 0
    num_waiting: int = 0
    prefill_backlog_tokens: int = 0
    kv_blocks_used: int = 0
    kv_blocks_cached: int = 0
    kv_blocks_total: int = 0
    num_preemptions: int = 0


@dataclass(frozen=True, slots=True)
class StepReport:
    """One step: its tokens, and what the metrics want to know of it. Times are the clock's, in seconds."""

    outputs: tuple[StepOutput, ...] = ()
    num_prefill_tokens: int = 0
    num_decode_tokens: int = 0
    queue_waits: tuple[float, ...] = field(default=())

    @property
    def is_idle(self) -> bool:
        """Nothing was computed: no work, or no room until blocks are released."""
        return self.num_prefill_tokens + self.num_decode_tokens == 0
