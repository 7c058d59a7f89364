"""The latency model of all workers: predicts for the policies, and follows each request to learn from it."""

from collections.abc import Callable, Mapping, Sequence

from tandem_router.disaggregation import break_even
from tandem_router.policies import View
from tandem_router.predict.accuracy import Accuracy
from tandem_router.predict.flight import Flight
from tandem_router.predict.lengths import Expected, OutputLengths
from tandem_router.predict.models import Models, Seed
from tandem_router.predict.question import Question
from tandem_router.predict.tokens import HitRates, TokenEstimates
from tandem_router.predict.worker import Worker
from tandem_router.types import Choice, Endpoint, Objective, Pair, Prediction, RequestInfo
from tandem_router.values import replace

NO_OBJECTIVE = Objective()
_SAME_MOMENT = 0.001


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
        self.asked: Question | None = None
        self.lengths, self.tokens = OutputLengths(), TokenEstimates()

    def objective(self, request: RequestInfo, /) -> Objective:
        return self._objectives.get(request.service_class) or self._objectives.get("default", NO_OBJECTIVE)

    def expected_output(self, request: RequestInfo) -> Expected:
        """Output tokens: mean and 90th percentile."""
        return self.lengths.expected(request)

    def sized(self, request: RequestInfo) -> RequestInfo:
        """With the prompt's tokens estimated as well as the model's answers so far allow."""
        if not request.prompt_bytes:
            return request
        tokens = self.tokens.estimate(request.model, request.prompt_bytes)
        return request if tokens is None else replace(request, prompt_tokens=tokens)

    def predict(self, request: RequestInfo, pair: Pair, view: View, /) -> Prediction | None:
        return self.predict_all(request, (pair,), view)[0]

    def predict_all(
        self, request: RequestInfo, pairs: Sequence[Pair], view: View, /
    ) -> Sequence[Prediction | None]:
        return self._question(request, view).answers(pairs)

    def begin(self, request: RequestInfo, choice: Choice, view: View) -> Flight:
        """The request is sent to these workers now."""
        pair = Pair(choice.prefill, choice.decode)
        question = self._question(request, view)
        self.asked = None
        side, decode = choice.prefill or choice.decode, choice.decode
        if choice.prefill is not None:
            self._pools.setdefault((choice.prefill.pool, decode.pool), pair)
        prompt, tokens = question.prompt(side), question.tokens(decode)
        return Flight(
            self,
            request,
            None if choice.prefill is None else self.worker(choice.prefill),
            self.worker(decode),
            prompt,
            tokens,
            view.matches.get(decode.name, 0),
            question.answers((pair,))[0],
            question.now,
        )

    def _question(self, request: RequestInfo, view: View) -> Question:
        """The one that was asked last, if it is still the same: one decision asks several times."""
        now, asked = self._clock(), self.asked
        if asked is None or asked.request is not request or now - asked.now > _SAME_MOMENT:
            asked = self.asked = Question(self, request, view, now)
        return asked

    def keep(self, names: frozenset[str]) -> None:
        """Forgets the workers that are gone and have nothing running."""
        self._pools = {
            pools: pair for pools, pair in self._pools.items() if all(e.name in names for e in pair.workers)
        }
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
        found = self._hits.get(model)
        if found is None:
            found = self._hits[model] = HitRates()
        return found

    def errors(self, model: str, objective: str) -> Accuracy:
        """Of predictions of `ttft` or `tpot`."""
        key = model, objective
        found = self._errors.get(key)
        if found is None:
            found = self._errors[key] = Accuracy()
        return found

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
