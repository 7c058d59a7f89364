"""Who starts now, who waits, who is refused. No I/O, no clock: every event comes with its time.

A request starts at once while nobody waits and a worker has room. Else it waits in its model's line; what
ends, opens or changes lets the first of the line start. Nobody waits when waiting has become pointless.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from math import inf

from tandem_router.moves import Leg
from tandem_router.queueing.capacity import Capacity
from tandem_router.queueing.decisions import NOTHING, Decision, Reason, Refuse, Served, Start, Wait
from tandem_router.queueing.lessons import learn
from tandem_router.queueing.line import LATE, OFFLINE, PARKED
from tandem_router.queueing.policy import QueuePolicy
from tandem_router.queueing.reserve import prefill_side
from tandem_router.queueing.state import Backlog, Bounds, Depth, Model, Running
from tandem_router.queueing.tiers import DEFAULT, Tier
from tandem_router.queueing.waiting import Ordered, Waiting
from tandem_router.types import (
    BUSY,
    UNCONSTRAINED,
    Choice,
    Constraint,
    Endpoint,
    NoChoice,
    Prediction,
    RequestInfo,
)

Choose = Callable[[RequestInfo, Constraint], Choice | NoChoice]
"""The pipeline, with the workers, their load and its randomness already in it."""

FEW_STREAMS = 8
"""With less than this on a decode worker, one more is never held back."""

Predict = Callable[[RequestInfo, Choice], Prediction | None]
"""What the choice would give the request, None while nobody knows."""


class Scheduler:
    """One router's queue. A request that was started is ended by its decode leg, whatever became of it."""

    def __init__(
        self,
        choose: Choose,
        capacity: Capacity,
        tiers: Mapping[str, Tier],
        *,
        bounds: Bounds | None = None,
        policy: QueuePolicy | None = None,
        predict: Predict = lambda _info, _choice: None,
    ) -> None:
        self._choose, self._capacity, self._tiers, self._predict = choose, capacity, tiers, predict
        self._bounds, self._policy = bounds or Bounds(), policy or QueuePolicy()
        self._models: dict[str, Model] = {}
        self._waiting: dict[str, Waiting] = {}
        self._running: dict[str, Running] = {}
        self._due = Ordered(lambda waiting: waiting.due)
        self._serial = 0
        self.depths = {name: Depth() for name in tiers}

    def submit(
        self, info: RequestInfo, now: float, *, expires: float = inf, size: int = 0
    ) -> Start | Wait | Refuse:
        """A new request. `expires`: the clock time at which its client has no use for it; `size` in bytes."""
        self._capacity.reopen(now)
        model = self._model(info.model)
        waiting = self._new(model, info, now, expires, size)
        if waiting.lane != PARKED and not model.line.goes_before(waiting):
            placed = self._start(model, waiting, now)
            if isinstance(placed, Start):
                return placed
            if placed.reason != BUSY:
                self._gone(waiting, now)
                return Refuse(info.request_id, Reason.NO_CAPACITY, self._bounds.pod_start)
        return self._queue(model, waiting, now)

    def ended(self, request_id: str, leg: Leg, now: float, served: Served = NOTHING) -> list[Decision]:
        """A leg ended: the prefill leg with its answer, or the decode leg and with it the whole request."""
        running = self._running.get(request_id)
        if running is None:
            return []
        model = self._model(running.waiting.info.model)
        if leg is Leg.PREFILL:
            roomier = self._capacity.end_prefill(running.held, now, done=True)
        else:
            del self._running[request_id]
            roomier = self._capacity.end_decode(running.held, now)
            kv_used = None if model.congestion is None else self._capacity.kv_used()
            learn(self._policy, model, running, served, now, kv_used)
        return self._dispatch(now) if roomier or model.held_back else []

    def first_token(self, request_id: str, now: float) -> list[Decision]:
        """The first token came. For a request on one worker this is when its prompt is done."""
        running = self._running.get(request_id)
        if running is None or running.first_token is not None:
            return []
        running.first_token = now
        model = self._model(running.waiting.info.model)
        roomier = self._capacity.end_prefill(running.held, now, done=True)
        model.estimates.first_token(now - running.started - running.held.seconds)
        return self._dispatch(now) if roomier else []

    def again(
        self, request_id: str, constraint: Constraint, now: float, *, info: RequestInfo | None = None
    ) -> Start | Wait | NoChoice:
        """Other workers for a running request whose choice failed or was refused.

        Where those that are left only lack room, it waits again, in its old place. Workers that were merely
        busy are asked again then, whatever `constraint` says. Without a worker left it still has to be ended.
        """
        running = self._running.get(request_id)
        if running is None:
            # It waited for others before, in vain.
            return NoChoice(Reason.NO_CAPACITY)
        waiting = running.waiting
        waiting.info = info or waiting.info
        model = self._model(waiting.info.model)
        self._capacity.end_decode(running.held, now)
        if self._policy.fair is not None:
            self._policy.fair.charge(waiting.info.tenant, -waiting.info.prompt_tokens, -waiting.charged)
        waiting.refused |= constraint.avoid & self._capacity.closed()
        waiting.constraint = replace(constraint, avoid=constraint.avoid - waiting.refused)
        started = self._start(model, waiting, now)
        if isinstance(started, NoChoice):
            if started.reason != BUSY:
                return started
            del self._running[request_id]
            self._wait(model, waiting, now)
            return Wait(model.estimates.wait(model.line.seconds_before(waiting)))
        return started

    def waited_for(self, request_id: str) -> frozenset[str]:
        """The busy workers that a running request has waited for and may be sent to again."""
        running = self._running.get(request_id)
        return frozenset() if running is None else running.waiting.refused

    def busy(self, worker: str, now: float) -> list[Decision]:
        """A worker refused a leg: it gets nothing for a moment."""
        self._capacity.busy(worker, now)
        return []

    def left(self, request_id: str, now: float, served: Served = NOTHING) -> list[Decision]:
        """Whatever the request did, running or waiting, it does not any more."""
        waiting = self._waiting.get(request_id)
        if waiting is None:
            return self.ended(request_id, Leg.DECODE, now, served)
        self._leave(waiting, now)
        self._gone(waiting, now)
        return []

    def workers_changed(self, endpoints: Iterable[Endpoint], now: float) -> list[Decision]:
        """Workers came or went."""
        known = tuple(endpoints)
        self._capacity.keep(frozenset(e.name for e in known))
        for fence in self._policy.fences:
            fence.workers_changed(known)
        for name in {e.model for e in known} | set(self._models):
            model, side = self._model(name), prefill_side(known, name)
            model.side = tuple(e.name for e in side)
            model.pool = side[0].pool if side else model.pool
            model.estimates.servers = len(side)
        return self._dispatch(now)

    def reported(self, now: float) -> list[Decision]:
        """Workers told of their load: some may have room again."""
        return self._dispatch(now) if self._capacity.reported() else []

    def tick(self, now: float) -> list[Decision]:
        """What is due by `now`: workers to ask again, requests for which it is too late."""
        self._capacity.reopen(now)
        return self._dispatch(now)

    def due(self) -> float | None:
        """When to call `tick` next, in clock time; None while nobody waits."""
        first = self._due.first()
        if first is None:
            return None
        leaving = (
            model.congestion.next_leaving()
            for model in self._models.values()
            if model.congestion is not None and model.line.first_of(PARKED) is not None
        )
        return min(first.due, self._capacity.next_opening(), *leaving)

    def waiting(self, now: float) -> dict[str, Backlog]:
        """What waits, by class. Offline work takes what room there is, so it asks for none: 0 tokens."""
        found = dict.fromkeys(self.depths, Backlog())
        for waiting in self._waiting.values():
            known = found[waiting.tier.name]
            oldest = max(known.oldest, now - waiting.arrived)
            tokens = known.tokens + (0 if waiting.tier.offline else waiting.info.prompt_tokens)
            found[waiting.tier.name] = Backlog(known.requests + 1, tokens, oldest)
        return found

    def _model(self, name: str) -> Model:
        model = self._models.get(name)
        if model is None:
            model = self._models[name] = Model(self._policy)
        return model

    def _new(self, model: Model, info: RequestInfo, now: float, expires: float, size: int) -> Waiting:
        self._serial += 1
        tier = self._tiers.get(info.service_class) or self._tiers[DEFAULT]
        seconds = self._capacity.pace(model.pool).predict(info.prompt_tokens)
        latest = model.estimates.latest(info, tier, now, seconds)
        waiting = Waiting(info, tier, now, expires, self._serial, size, seconds, latest)
        policy = self._policy
        waiting.key = policy.order(waiting)
        if info.session and policy.programs is not None:
            first = policy.programs.arrived(info.session, now)
            waiting.later_call = first < now
            waiting.key -= now - first if policy.keep_place else 0.0
        waiting.lane = self._lane(model, waiting, now)
        return waiting

    def _lane(self, model: Model, waiting: Waiting, now: float) -> str:
        session = waiting.info.session
        if session and model.congestion is not None and not model.congestion.admits(session, now):
            return PARKED
        if waiting.tier.offline:
            return OFFLINE
        if waiting.latest <= now:
            return LATE
        # Those behind the same fences; every fence that opens makes another lane.
        fences = self._policy.fences
        return "".join(str(i) for i, fence in enumerate(fences) if fence.avoid(waiting, now))

    def _due_at(self, waiting: Waiting) -> float:
        aside = waiting.lane in (LATE, OFFLINE, PARKED)
        if aside and not waiting.tier.sheddable:
            return waiting.expires
        due = min(waiting.latest, waiting.expires)
        if aside:
            return due
        opens = (self._policy.fences[int(index)].opens(waiting) for index in waiting.lane)
        return min((time for time in opens if time is not None), default=due)

    def _queue(self, model: Model, waiting: Waiting, now: float) -> Wait | Refuse:
        expected = model.estimates.wait(model.line.seconds_before(waiting))
        refused = self._refusal(model, waiting, expected, now)
        if refused is not None:
            self._gone(waiting, now)
            return refused
        self._wait(model, waiting, now)
        return Wait(expected)

    def _wait(self, model: Model, waiting: Waiting, now: float) -> None:
        depth = self.depths[waiting.tier.name]
        depth.requests += 1
        depth.size += waiting.size
        self._waiting[waiting.info.request_id] = waiting
        self._enter(model, waiting)
        if self._policy.fair is not None:
            self._policy.fair.arrived(waiting.info.tenant)
        model.estimates.drain.advance(now, contended=True)

    def _refusal(self, model: Model, waiting: Waiting, expected: float, now: float) -> Refuse | None:
        """Why it should not even begin to wait."""
        request_id, depth = waiting.info.request_id, self.depths[waiting.tier.name]
        full = depth.requests >= self._bounds.requests or depth.size + waiting.size > self._bounds.size
        if full or self._too_many(model, waiting):
            return Refuse(request_id, Reason.QUEUE_FULL, expected)
        if now + expected >= waiting.expires:
            return Refuse(request_id, Reason.DEADLINE, expected)
        if waiting.tier.sheddable and now + expected >= waiting.latest:
            missing = now + expected - max(now, waiting.latest)
            return Refuse(request_id, Reason.UNATTAINABLE, max(waiting.seconds, missing))
        return None

    def _too_many(self, model: Model, waiting: Waiting) -> bool:
        """A tenant may have as many waiting as there are places left: nobody can fill the queue."""
        if self._policy.fair is None:
            return False
        left = self._bounds.requests - self.depths[waiting.tier.name].requests
        return model.line.of_tenant(waiting) >= left

    def _enter(self, model: Model, waiting: Waiting) -> None:
        waiting.due = self._due_at(waiting)
        model.line.add(waiting)
        self._due.add(waiting)

    def _exit(self, model: Model, waiting: Waiting) -> None:
        model.line.remove(waiting)
        self._due.remove(waiting)

    def _leave(self, waiting: Waiting, now: float) -> None:
        model = self._model(waiting.info.model)
        del self._waiting[waiting.info.request_id]
        self._exit(model, waiting)
        depth = self.depths[waiting.tier.name]
        depth.requests -= 1
        depth.size -= waiting.size
        if self._policy.fair is not None:
            self._policy.fair.left(waiting.info.tenant)
        model.estimates.drain.advance(now, contended=len(model.line) > 0)

    def _gone(self, waiting: Waiting, now: float) -> None:
        """It ends without having started."""
        if waiting.info.session and self._policy.programs is not None:
            self._policy.programs.ended(waiting.info.session, now)

    def _overdue(self, now: float) -> list[Decision]:
        refused: list[Decision] = []
        while (waiting := self._due.first()) is not None and waiting.due <= now:
            if now >= waiting.expires or (waiting.tier.sheddable and now >= waiting.latest):
                refused.append(self._give_up(waiting, now))
            else:
                model = self._model(waiting.info.model)
                self._exit(model, waiting)
                waiting.lane = self._lane(model, waiting, now)
                self._enter(model, waiting)
        return refused

    def _give_up(self, waiting: Waiting, now: float) -> Refuse:
        info, waited = waiting.info, now - waiting.arrived
        model = self._model(info.model)
        expected = model.estimates.wait(model.line.seconds_before(waiting) + waiting.seconds)
        self._leave(waiting, now)
        self._gone(waiting, now)
        if isinstance(self._choose(info, waiting.constraint), NoChoice):
            return Refuse(info.request_id, Reason.NO_CAPACITY, self._bounds.pod_start, waited)
        reason = Reason.DEADLINE if now >= waiting.expires else Reason.UNATTAINABLE
        return Refuse(info.request_id, reason, expected, waited)

    def _dispatch(self, now: float) -> list[Decision]:
        """Refuses those for whom it is too late, then starts as many as there is room for."""
        decisions = self._overdue(now)
        for model in self._models.values():
            if len(model.line):
                self._let_in(model, now)
                while (started := self._next(model, now)) is not None:
                    decisions.append(started)
        return decisions

    def _next(self, model: Model, now: float) -> Decision | None:
        model.held_back = False
        if model.side and not self._capacity.any_open(model.side):
            return None
        for waiting in model.line.heads(now, model.estimates.rate):
            started = self._start(model, waiting, now)
            if isinstance(started, Start):
                model.estimates.drain.started(waiting.seconds)
                model.line.started()
                self._leave(waiting, now)
                return started
            if started.reason != BUSY:
                return self._give_up(waiting, now)
        return None

    def _let_in(self, model: Model, now: float) -> None:
        """Sessions that the congestion window has room for leave the parking lane."""
        while model.congestion is not None and (waiting := model.line.first_of(PARKED)) is not None:
            if not model.congestion.admits(waiting.info.session, now):
                return
            model.congestion.started(waiting.info.session)
            self._exit(model, waiting)
            waiting.lane = self._lane(model, waiting, now)
            self._enter(model, waiting)

    def _start(self, model: Model, waiting: Waiting, now: float) -> Start | NoChoice:
        info, capacity = waiting.info, self._capacity
        constraint = capacity.constraint()
        if waiting.constraint is not UNCONSTRAINED:
            # Whoever holds the KV already needs no room for it.
            constraint = replace(waiting.constraint, full=constraint.full - {waiting.constraint.held})
        for fence in self._policy.fences:
            if names := fence.avoid(waiting, now):
                constraint = replace(constraint, full=constraint.full | names)
        choice = self._choose(info, constraint)
        if isinstance(choice, NoChoice):
            return choice
        if not self._harmless(model, waiting, choice):
            model.held_back = True
            return NoChoice(BUSY)
        held = capacity.take(choice, info.prompt_tokens, now, stream=info.stream)
        if self._policy.fair is not None:
            waiting.charged = model.estimates.output_tokens(info)
            self._policy.fair.charge(info.tenant, info.prompt_tokens, waiting.charged)
        if model.congestion is not None and info.session:
            model.congestion.started(info.session)
        self._running[info.request_id] = Running(waiting, held, now)
        return Start(info.request_id, choice, now - waiting.arrived)

    def _harmless(self, model: Model, waiting: Waiting, choice: Choice) -> bool:
        """Whether those that run, or that come next, keep their objectives when it starts on `choice`."""
        tier, streams = waiting.tier, self._capacity.worker(choice.decode.name).decodes
        if tier.offline:
            prediction = self._predict(waiting.info, choice)
            return self._policy.offline.admits(waiting, choice, prediction, self._capacity, model.side)
        if streams < FEW_STREAMS or tier.tpot is None or waiting.lane == LATE:
            return True
        prediction = self._predict(waiting.info, choice)
        return prediction is None or prediction.tpot <= tier.tpot
