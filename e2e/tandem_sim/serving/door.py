"""One router: the real scheduler, pipeline and predictor, and legs that are sent in virtual time."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Protocol

from tandem_router.candidates import candidates
from tandem_router.loads import LoadBook
from tandem_router.moves import Leg
from tandem_router.pipeline import decide
from tandem_router.policies import View
from tandem_router.policies.registry import Policy
from tandem_router.predict.flight import Flight
from tandem_router.predict.forecaster import Forecaster
from tandem_router.queueing.decisions import Decision, Refuse, Start, Wait
from tandem_router.types import Choice, Constraint, Endpoint, NoChoice, Report, RequestInfo
from tandem_sim.clock import Clock
from tandem_sim.serving.outcome import Outcome
from tandem_sim.serving.service import MODEL
from tandem_sim.serving.worker import Task, Worker

Done = Callable[[Outcome], None]


class Scheduler(Protocol):
    """What a door asks of `tandem_router.queueing.scheduler.Scheduler`."""

    def submit(self, info: RequestInfo, now: float, /) -> Start | Wait | Refuse: ...
    def first_token(self, request_id: str, now: float, /) -> list[Decision]: ...
    def ended(self, request_id: str, leg: Leg, now: float, /) -> list[Decision]: ...
    def busy(self, worker: str, now: float, /) -> list[Decision]: ...
    def again(self, request_id: str, constraint: Constraint, now: float, /) -> Start | Wait | NoChoice: ...
    def workers_changed(self, endpoints: Iterable[Endpoint], now: float, /) -> list[Decision]: ...
    def reported(self, now: float, /) -> list[Decision]: ...
    def tick(self, now: float, /) -> list[Decision]: ...
    def due(self) -> float | None: ...


@dataclass(slots=True)
class Visit:
    """One call in the router's hands."""

    info: RequestInfo
    outcome: Outcome
    done: Done
    choice: Choice | None = None
    flight: Flight | None = None
    matches: Mapping[str, int] | None = None
    avoid: frozenset[str] = frozenset()


class Door:
    """Takes calls. Several doors to one fleet share nothing but the workers."""

    def __init__(
        self,
        clock: Clock,
        workers: Mapping[str, Worker],
        policy: Policy,
        forecaster: Forecaster,
        make_scheduler: Callable[["Door"], Scheduler],
        random: Random,
    ) -> None:
        self.clock, self.workers, self.policy, self.forecaster = clock, workers, policy, forecaster
        self.loads, self.reports = LoadBook(), dict[str, Report]()
        self._random = random
        self._found = candidates([w.endpoint for w in workers.values()], MODEL)
        self._visits: dict[str, Visit] = {}
        self._count = 0
        self._timer = math.inf
        self.scheduler = make_scheduler(self)
        self._act(self.scheduler.workers_changed([w.endpoint for w in workers.values()], clock.now))

    def arrive(self, outcome: Outcome, done: Done) -> None:
        """A call comes in now; `done` gets its outcome when that is complete."""
        call, now, self._count = outcome.call, self.clock.now, self._count + 1
        info = RequestInfo(
            str(self._count),
            MODEL,
            call.prompt_tokens,
            stream=True,
            max_tokens=call.max_tokens,
            service_class=call.service_class,
            tenant=call.tenant,
            session=call.session,
            prefix=call.blocks,
        )
        visit = self._visits[info.request_id] = Visit(info, outcome, done)
        visit.matches = {name: m for name, w in self.workers.items() if (m := w.matched(call))}
        decision = self.scheduler.submit(info, now)
        if not isinstance(decision, Wait):
            self._act([decision])
        self._arm()

    def choose(self, info: RequestInfo, constraint: Constraint) -> Choice | NoChoice:
        """The pipeline, as the scheduler calls it."""
        return decide(
            info,
            self._found,
            self._view(self._visits[info.request_id]),
            self._random,
            policy=self.policy,
            constraint=constraint,
        )

    def heard(self, reports: Mapping[str, Report]) -> None:
        """Workers' reports arrive."""
        self.reports.update(reports)
        self._act(self.scheduler.reported(self.clock.now))

    def _view(self, visit: Visit) -> View:
        return View(self.loads, self.reports, visit.matches or {}, predictor=self.forecaster)

    def _act(self, decisions: Iterable[Decision]) -> None:
        for decision in decisions:
            visit = self._visits[decision.request_id]
            match decision:
                case Start(choice=choice):
                    visit.outcome.started = self.clock.now
                    self._launch(visit, choice)
                case Refuse(reason=reason):
                    self._refuse(visit, reason)
        self._arm()

    def _refuse(self, visit: Visit, reason: str) -> None:
        visit.outcome.refused, visit.outcome.refused_at = reason, self.clock.now
        del self._visits[visit.info.request_id]
        visit.done(visit.outcome)

    def _launch(self, visit: Visit, choice: Choice) -> None:
        visit.choice = visit.outcome.choice = choice
        visit.flight = self.forecaster.begin(visit.info, choice, self._view(visit))
        visit.outcome.prediction = visit.flight.prediction
        worker = self.workers[(choice.prefill or choice.decode).name]
        call = visit.outcome.call
        if choice.prefill is None:
            task = Task(call, first=lambda: self._first(visit), end=lambda: self._end(visit))
        else:
            task = Task(call, keeps=True)
            task.end = lambda: self._prefilled(visit, worker, task)
        if not worker.submit(task):
            self._refused(visit, worker)

    def _refused(self, visit: Visit, worker: Worker) -> None:
        """The worker is busy: the next one is asked; when all are, the call goes back to the clients."""
        now = self.clock.now
        if visit.flight is not None:
            visit.flight.dropped(now)
        visit.avoid |= {worker.endpoint.name}
        self._act(self.scheduler.busy(worker.endpoint.name, now))
        found = self.scheduler.again(visit.info.request_id, Constraint(avoid=visit.avoid), now)
        if isinstance(found, Start):
            self._launch(visit, found.choice)
        elif isinstance(found, NoChoice):
            decisions = self.scheduler.ended(visit.info.request_id, Leg.DECODE, now)
            self._refuse(visit, "workers_busy")
            self._act(decisions)
        self._arm()

    def _prefilled(self, visit: Visit, worker: Worker, task: Task) -> None:
        now, choice, flight = self.clock.now, visit.choice, visit.flight
        if choice is None or flight is None:
            raise ValueError("a prompt was computed that nobody sent")
        flight.prefilled(now)
        flight.counted(task.call.prompt_tokens, task.cached)
        decode = self.workers[choice.decode.name]
        leg = Task(
            visit.outcome.call,
            first=lambda: self._first(visit),
            end=lambda: self._end(visit),
            from_peer=worker,
            peer_task=task,
        )
        if not decode.submit(leg):
            worker.release(task)
            self._refused(visit, decode)
        self._act(self.scheduler.ended(visit.info.request_id, Leg.PREFILL, now))

    def _first(self, visit: Visit) -> None:
        now = visit.outcome.first_token = self.clock.now
        if visit.flight is not None:
            visit.flight.first_token(now)
        self._act(self.scheduler.first_token(visit.info.request_id, now))

    def _end(self, visit: Visit) -> None:
        now = visit.outcome.ended = self.clock.now
        if visit.flight is not None:
            visit.flight.ended(now, visit.outcome.call.output_tokens)
        del self._visits[visit.info.request_id]
        decisions = self.scheduler.ended(visit.info.request_id, Leg.DECODE, now)
        visit.done(visit.outcome)
        self._act(decisions)

    def _arm(self) -> None:
        """Wakes the scheduler when it wants to be woken."""
        due = self.scheduler.due()
        if due is None or due >= self._timer:
            return
        self._timer = due
        self.clock.after(max(0.0, due - self.clock.now), lambda: self._tick(due))

    def _tick(self, due: float) -> None:
        if self._timer == due:
            self._timer = math.inf
        self._act(self.scheduler.tick(self.clock.now))
