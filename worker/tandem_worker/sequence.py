"""A request on its way through the engine: its tokens, what of them is computed, its blocks. No torch."""

from dataclasses import dataclass, field

from tandem_worker.request import Request, SamplingParams


@dataclass(slots=True, eq=False)
class Sequence:
    """Prompt and output tokens; the KV of the first `num_computed_tokens` is in `block_ids`.

    `order` is the arrival number (first come, first served), `seed` the sampling seed, times are the clock's.
    """

    request: Request
    seed: int
    order: int
    arrived_at: float
    token_ids: list[int] = field(init=False)
    block_ids: list[int] = field(default_factory=list)
    block_hashes: list[bytes] = field(default_factory=list)
    num_computed_tokens: int = 0
    num_registered_blocks: int = 0
    num_cached_tokens: int | None = None
    has_started: bool = False

    def __post_init__(self) -> None:
        self.token_ids = list(self.request.prompt_token_ids)

    @property
    def request_id(self) -> str:
        return self.request.request_id

    @property
    def sampling(self) -> SamplingParams:
        return self.request.sampling

    @property
    def num_prompt_tokens(self) -> int:
        return len(self.request.prompt_token_ids)

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def num_output_tokens(self) -> int:
        return len(self.token_ids) - len(self.request.prompt_token_ids)

    @property
    def num_generated_tokens(self) -> int:
        """Output tokens with those of a worker before this one: the position that sampling is at."""
        return self.num_output_tokens + self.request.num_resumed

    @property
    def num_pending_tokens(self) -> int:
        """Tokens whose KV is not computed. A decoding sequence has one: its newest."""
        return len(self.token_ids) - self.num_computed_tokens

    @property
    def is_decoding(self) -> bool:
        return self.num_output_tokens > 0 and self.num_pending_tokens == 1


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next `num_tokens` pending tokens of a sequence, to be computed in one step."""

    sequence: Sequence
    num_tokens: int

    @property
    def samples(self) -> bool:
        """Whether the chunk ends with the newest token, so that a new one can be sampled."""
        return self.num_tokens == self.sequence.num_pending_tokens
