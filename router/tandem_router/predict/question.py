"""One request and the workers asked about: each worker is worked out once."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from tandem_router.policies import View
from tandem_router.predict.beside import Signs
from tandem_router.predict.prompts import Work
from tandem_router.types import Endpoint, Pair, Prediction, RequestInfo

if TYPE_CHECKING:
    from tandem_router.predict.forecaster import Forecaster


class Prompt(NamedTuple):
    """What the prompt would take on one worker. `matched`: tokens that are said to be cached there."""

    known: bool
    queue: float
    seconds: float
    work: Work
    matched: int


class Tokens(NamedTuple):
    """What decoding would take on one worker. `stall`: streams that a second of prefill there holds up.

    `transfer`: of what the worker lacks of the prompt, infinite while nothing is known of transfers.
    """

    known: bool
    step: float
    tpot: float
    stall: float
    transfer: float
    signs: Signs


class Question:
    """Answers for pairs of workers at the moment `now`."""

    __slots__ = (
        "_cached",
        "_forecaster",
        "_kv_tokens",
        "_limit",
        "_prompts",
        "_tokens",
        "_view",
        "now",
        "request",
    )

    def __init__(self, forecaster: "Forecaster", request: RequestInfo, view: View, now: float) -> None:
        self._forecaster, self.request, self._view, self.now = forecaster, request, view, now
        self._cached = forecaster.hits(request.model).cached
        self._limit = forecaster.objective(request).tpot
        self._kv_tokens = request.prompt_tokens + forecaster.lengths.expected(request).mean / 2
        self._prompts: dict[str, Prompt] = {}
        self._tokens: dict[str, Tokens] = {}

    def answers(self, pairs: Sequence[Pair]) -> list[Prediction | None]:
        return [self._whole(pair.decode) if pair.prefill is None else self._handover(pair) for pair in pairs]

    def prompt(self, endpoint: Endpoint) -> Prompt:
        """The prefill side."""
        name = endpoint.name
        found = self._prompts.get(name)
        if found is None:
            found = self._prompts[name] = self._ask_prompt(endpoint)
        return found

    def tokens(self, endpoint: Endpoint) -> Tokens:
        """The decode side."""
        name = endpoint.name
        found = self._tokens.get(name)
        if found is None:
            found = self._tokens[name] = self._ask_tokens(endpoint)
        return found

    def _whole(self, endpoint: Endpoint) -> Prediction | None:
        prompt, tokens = self.prompt(endpoint), self.tokens(endpoint)
        if not (prompt.known and tokens.known):
            return None
        queue, seconds = prompt.queue, prompt.seconds
        return Prediction(queue + seconds, tokens.tpot, 0.0, queue, seconds, seconds * tokens.stall)

    def _handover(self, pair: Pair) -> Prediction | None:
        decode, prefill = pair.decode, pair.prefill
        if prefill is None:
            return None
        prompt, tokens = self.prompt(prefill), self.tokens(decode)
        transfer = tokens.transfer
        if transfer == math.inf or not (prompt.known and tokens.known):
            return None
        queue, seconds = prompt.queue, prompt.seconds
        return Prediction(queue + seconds + transfer + tokens.step, tokens.tpot, transfer, queue, seconds)

    def _ask_prompt(self, endpoint: Endpoint) -> Prompt:
        worker = self._forecaster.worker(endpoint)
        tokens = self.request.prompt_tokens
        matched = self._view.matches.get(endpoint.name, 0)
        cached = self._cached(tokens, matched)
        new = tokens - cached
        work = Work(1.0, new, new * (cached + new / 2))
        known = worker.shared.latency.prefill_known
        return Prompt(known, worker.prompts.wait(self.now), worker.prefill_seconds(work), work, matched)

    def _ask_tokens(self, endpoint: Endpoint) -> Tokens:
        worker, now = self._forecaster.worker(endpoint), self.now
        signs = worker.signs(now)
        tpot = worker.tpot(self._kv_tokens, signs, now)
        held_up = worker.held_up() * min(1.0, tpot / self._limit)
        latency = worker.shared.latency
        transfer = math.inf
        if latency.transfer_known:
            lacking = self.request.prompt_tokens - self._view.matches.get(endpoint.name, 0)
            num_bytes = max(0, lacking) * worker.shared.kv_bytes_per_token
            transfer = latency.model.transfer.a + num_bytes / latency.model.transfer.bandwidth
        return Tokens(latency.decode_known, worker.step_now(now), tpot, held_up, transfer, signs)
