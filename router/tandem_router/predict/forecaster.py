"""The latency model of all workers: predicts for the policies, and follows each request to learn from it."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tandem_router.disaggregation import break_even
from tandem_router.policies import View
from tandem_router.predict.accuracy import Accuracy
from tandem_router.predict.flight import Flight
from tandem_router.predict.lengths import Expected, OutputLengths
from tandem_router.predict.models import Models, Seed
from tandem_router.predict.prompts import work_of
from tandem_router.predict.tokens import HitRates, TokenEstimates
from tandem_router.predict.worker import Worker
from tandem_router.types import Choice, Endpoint, Objective, Pair, Prediction, RequestInfo

NO_OBJECTIVE = Objective()


class _Prompt(NamedTuple):
    """What the prompt would take on one worker."""

    queue: float
    prefill: float


class _Tokens(NamedTuple):
    """What decoding would take on one worker. `stall`: streams that a second of prefill there holds up."""

    step: float
    tpot: float
    stall: float


class Forecaster:
    """Implements `policies.Predictor`; `clock` gives seconds. Workers are known by their names."""

    def __init__(
        self,
        clock: Callable[[], float],
        objectives: Mapping[str, Objective] | None = None,
        seeds: Sequence[Seed] = (),
    ) -> None:
        self._clock, self._objectives = clock, dict(objectives or {})
        self._models = Models(seeds)
        self._workers: dict[str, Worker] = {}
        self._errors: dict[tuple[str, str], Accuracy] = {}
        self._hits: dict[str, HitRates] = {}
        self._pools: dict[tuple[str, str], Pair] = {}
        self.lengths, self.tokens = OutputLengths(), TokenEstimates()

    def objective(self, request: RequestInfo, /) -> Objective:
        return self._objectives.get(request.service_class) or self._objectives.get("default", NO_OBJECTIVE)

    def expected_output(self, request: RequestInfo) -> Expected:
        """Output tokens: mean and 90th percentile."""
        return self.lengths.expected(request)

    def predict(self, request: RequestInfo, pair: Pair, view: View, /) -> Prediction | None:
        return self.predict_all(request, (pair,), view)[0]

    def predict_all(
        self, request: RequestInfo, pairs: Sequence[Pair], view: View, /
    ) -> Sequence[Prediction | None]:
        return _Question(self, request, view, self._clock()).answers(pairs)

    def begin(self, request: RequestInfo, choice: Choice, view: View) -> Flight:
        """The request is sent to these workers now."""
        now = self._clock()
        pair = Pair(choice.prefill, choice.decode)
        if choice.prefill is not None:
            self._pools.setdefault((choice.prefill.pool, choice.decode.pool), pair)
        prediction = _Question(self, request, view, now).answers((pair,))[0]
        matched = view.matches.get((choice.prefill or choice.decode).name, 0)
        cached = self.hits(request.model).cached(request.prompt_tokens, matched)
        return Flight(
            self,
            request,
            None if choice.prefill is None else self.worker(choice.prefill),
            self.worker(choice.decode),
            work_of(request.prompt_tokens - cached, cached),
            (matched, view.matches.get(choice.decode.name, 0)),
            prediction,
            now,
        )

    def keep(self, names: frozenset[str]) -> None:
        """Forgets the workers that are gone and have nothing running."""
        for name, worker in list(self._workers.items()):
            if name not in names and not worker.prompts.outstanding and not worker.streams.batch:
                worker.forget()
                del self._workers[name]

    def worker(self, endpoint: Endpoint) -> Worker:
        found = self._workers.get(endpoint.name)
        if found is None:
            found = self._workers[endpoint.name] = Worker(self._models.of(endpoint))
        return found

    def hits(self, model: str) -> HitRates:
        return self._hits.setdefault(model, HitRates())

    def ttft_errors(self, model: str) -> Accuracy:
        return self._errors.setdefault((model, "ttft"), Accuracy())

    def tpot_errors(self, model: str) -> Accuracy:
        return self._errors.setdefault((model, "tpot"), Accuracy())

    def median_errors(self) -> dict[tuple[str, str], float]:
        """(Model, ttft or tpot) -> median relative error of the last predictions."""
        return {key: found.median for key, found in self._errors.items() if found.median is not None}

    def break_evens(self) -> dict[tuple[str, str], float]:
        """(Prefill pool, decode pool) -> tokens from which on a hand-over between idle workers pays."""
        return {pools: self._break_even(pair) for pools, pair in self._pools.items()}

    def _break_even(self, pair: Pair) -> float:
        decode = self.worker(pair.decode)
        prefill = decode if pair.prefill is None else self.worker(pair.prefill)
        transfer, shared = decode.shared.latency.model.transfer, decode.shared
        return break_even(
            shared.latency.model.prefill,
            prefill.shared.latency.model.prefill,
            held_up=decode.held_up(),
            fixed=transfer.a,
            per_token=shared.kv_bytes_per_token / transfer.bandwidth,
        )


class _Question:
    """One request and the workers asked about: each worker is worked out once."""

    __slots__ = (
        "_forecaster",
        "_half_output",
        "_hits",
        "_limit",
        "_now",
        "_prompts",
        "_request",
        "_tokens",
        "_view",
    )

    def __init__(self, forecaster: Forecaster, request: RequestInfo, view: View, now: float) -> None:
        self._forecaster, self._request, self._view, self._now = forecaster, request, view, now
        self._hits = forecaster.hits(request.model)
        self._limit = forecaster.objective(request).tpot
        self._half_output = forecaster.lengths.expected(request).mean / 2
        self._prompts: dict[str, _Prompt | None] = {}
        self._tokens: dict[str, _Tokens | None] = {}

    def answers(self, pairs: Sequence[Pair]) -> list[Prediction | None]:
        return [self._whole(pair.decode) if pair.prefill is None else self._handover(pair) for pair in pairs]

    def _whole(self, endpoint: Endpoint) -> Prediction | None:
        prompt, tokens = self._prompt(endpoint), self._token(endpoint)
        if prompt is None or tokens is None:
            return None
        ttft = prompt.queue + prompt.prefill
        interference = prompt.prefill * tokens.stall
        return Prediction(ttft, tokens.tpot, 0.0, prompt.queue, prompt.prefill, interference)

    def _handover(self, pair: Pair) -> Prediction | None:
        decode, prefill = pair.decode, pair.prefill
        if prefill is None or (prompt := self._prompt(prefill)) is None:
            return None
        shared = self._forecaster.worker(decode).shared
        tokens = self._token(decode)
        if tokens is None or not shared.latency.transfer_known:
            return None
        lacking = self._request.prompt_tokens - self._view.matches.get(decode.name, 0)
        model = shared.latency.model.transfer
        transfer = model.a + max(0, lacking) * shared.kv_bytes_per_token / model.bandwidth
        ttft = prompt.queue + prompt.prefill + transfer + tokens.step
        return Prediction(ttft, tokens.tpot, transfer, prompt.queue, prompt.prefill)

    def _prompt(self, endpoint: Endpoint) -> _Prompt | None:
        name = endpoint.name
        if name not in self._prompts:
            self._prompts[name] = self._ask_prompt(endpoint)
        return self._prompts[name]

    def _token(self, endpoint: Endpoint) -> _Tokens | None:
        name = endpoint.name
        if name not in self._tokens:
            self._tokens[name] = self._ask_tokens(endpoint)
        return self._tokens[name]

    def _ask_prompt(self, endpoint: Endpoint) -> _Prompt | None:
        worker = self._forecaster.worker(endpoint)
        if not worker.shared.latency.prefill_known:
            return None
        tokens = self._request.prompt_tokens
        cached = self._hits.cached(tokens, self._view.matches.get(endpoint.name, 0))
        seconds = worker.prefill_seconds(work_of(tokens - cached, cached))
        return _Prompt(worker.prompts.wait(self._now), seconds)

    def _ask_tokens(self, endpoint: Endpoint) -> _Tokens | None:
        worker = self._forecaster.worker(endpoint)
        if not worker.shared.latency.decode_known:
            return None
        tpot = worker.tpot(self._request.prompt_tokens + self._half_output, self._now)
        pressure = min(1.0, tpot / self._limit)
        return _Tokens(worker.step_now(self._now), tpot, worker.held_up() * pressure)
