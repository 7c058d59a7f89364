"""Who starts now, who waits, who is refused. No I/O, no clock: every event comes with its time.

A request starts at once while nobody waits and a worker has room. Else it waits in its model's line; what
ends, opens or changes lets the first of the line start. Nobody waits when waiting has become pointless.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import inf

from tandem_router.moves import Leg
from tandem_router.queueing.capacity import Capacity, Held
from tandem_router.queueing.decisions import Decision, Reason, Refuse, Start, Wait
from tandem_router.queueing.line import Line
from tandem_router.queueing.pace import Drain, Lag
from tandem_router.queueing.tiers import Tier
from tandem_router.queueing.waiting import Ordered, Waiting
from tandem_router.types import (
    UNCONSTRAINED,
    Choice,
    Constraint,
    Endpoint,
    NoChoice,
    RequestInfo,
    Role,
)

Choose = Callable[[RequestInfo, Constraint], Choice | NoChoice]
"""The pipeline, with the workers, their load and its randomness already in it."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long the queue may get, for each class, and how soon a pod is expected when there is none."""

    requests: int = 2048
    size: int = 256 * 2**20
    pod_start_seconds: float = 30.0


@dataclass(slots=True)
class Running:
    """A request that was started."""

    waiting: Waiting
    held: Held
    started: float
    first_token: float | None = None


@dataclass(slots=True)
class Depth:
    """What of one class waits."""

    requests: int = 0
    size: int = 0


class Scheduler:
    """One router's queue. A request that was started is ended by its decode leg, whatever became of it."""

    def __init__(
        self,
        choose: Choose,
        capacity: Capacity,
        tiers: Mapping[str, Tier],
        bounds: Bounds = Bounds(),
    ) -> None:
        self._choose, self._capacity, self._tiers, self._bounds = choose, capacity, tiers, bounds
        self._default = tiers["default"]
        self._lines: dict[str, Line] = {}
        self._waiting: dict[str, Waiting] = {}
        self._running: dict[str, Running] = {}
        self._ends = Ordered(lambda waiting: waiting.end)
        self._servers: dict[str, int] = {}
        self._pools: dict[str, str] = {}
        self._lags: dict[str, Lag] = {}
        self._drains: dict[str, Drain] = {}
        self._serial = 0
        self.depths = {name: Depth() for name in tiers}

    def submit(
        self, info: RequestInfo, now: float, *, expires: float = inf, size: int = 0
    ) -> Start | Wait | Refuse:
        """A new request. `expires`: the clock time at which its client has no use for it; `size` in bytes."""
        self._capacity.reopen(now)
        waiting = self._new(info, now, expires, size)
        line = self._lines.get(info.model)
        if line is None or not line:
            placed = self._start(waiting, now)
            if placed is not None:
                return placed
            if isinstance(self._choose(info, UNCONSTRAINED), NoChoice):
                return Refuse(info.request_id, Reason.NO_CAPACITY, self._bounds.pod_start_seconds)
        return self._queue(waiting, now)

    def ended(self, request_id: str, leg: Leg, now: float) -> list[Decision]:
        """A leg ended: the prefill leg with its answer, or the decode leg and with it the whole request."""
        running = self._running.get(request_id)
        if running is None:
            return []
        if leg is Leg.PREFILL:
            return self._dispatch(now) if self._capacity.end_prefill(running.held, now, done=True) else []
        del self._running[request_id]
        return self._dispatch(now) if self._capacity.end_decode(running.held, now) else []

    def first_token(self, request_id: str, now: float) -> list[Decision]:
        """The first token came. For a request on one worker this is when its prompt is done."""
        running = self._running.get(request_id)
        if running is None or running.first_token is not None:
            return []
        running.first_token = now
        roomier = self._capacity.end_prefill(running.held, now, done=True)
        lag = now - running.started - running.held.seconds
        self._lags.setdefault(running.waiting.info.model, Lag()).learn(lag)
        return self._dispatch(now) if roomier else []

    def again(self, request_id: str, constraint: Constraint, now: float) -> Choice | NoChoice:
        """Other workers for a running request whose choice failed: open ones if there are, else full ones."""
        running = self._running[request_id]
        self._capacity.end_decode(running.held, now)
        info = running.waiting.info
        full = self._capacity.constraint().avoid
        choice: Choice | NoChoice = NoChoice("")
        if full:
            choice = self._choose(info, _avoiding(constraint, full))
        if isinstance(choice, NoChoice):
            choice = self._choose(info, constraint)
        if isinstance(choice, Choice):
            running.held = self._capacity.take(choice, info.prompt_tokens, now, stream=info.stream)
        return choice

    def busy(self, worker: str, now: float) -> list[Decision]:
        """A worker refused a leg: it gets nothing for a moment."""
        self._capacity.busy(worker, now)
        return []

    def cancel(self, request_id: str, now: float) -> list[Decision]:
        """The client left, waiting or running."""
        waiting = self._waiting.get(request_id)
        if waiting is not None:
            self._leave(waiting, now)
            return []
        return self.ended(request_id, Leg.DECODE, now)

    def workers_changed(self, endpoints: Iterable[Endpoint], now: float) -> list[Decision]:
        """Workers came or went."""
        known = tuple(endpoints)
        self._capacity.keep(frozenset(e.name for e in known))
        for model in {e.model for e in known}:
            sides = [e for e in known if e.model == model and e.ready]
            prefills = [e for e in sides if e.role is Role.PREFILL] or sides
            self._servers[model] = len(prefills)
            if prefills:
                self._pools[model] = prefills[0].pool
        return self._dispatch(now)

    def reported(self, now: float) -> list[Decision]:
        """Workers told of their load: some may have room again."""
        return self._dispatch(now) if self._capacity.reported() else []

    def tick(self, now: float) -> list[Decision]:
        """What is due by `now`: workers to ask again, requests for which it is too late."""
        decisions: list[Decision] = self._dispatch(now) if self._capacity.reopen(now) else []
        while (waiting := self._ends.first()) is not None and waiting.end <= now:
            decisions.append(self._give_up(waiting, now))
        return decisions

    def due(self) -> float | None:
        """When to call `tick` next, in clock time; None while nobody waits."""
        first = self._ends.first()
        if first is None:
            return None
        opening = self._capacity.next_opening()
        return first.end if opening is None else min(first.end, opening)

    def expected(self, waiting: Waiting) -> float:
        """Seconds until it starts: the work before it, at the rate at which work leaves the queue."""
        model = waiting.info.model
        line = self._lines.get(model)
        ahead = line.seconds_before(waiting.key) if line else 0.0
        return ahead / self._drain(model).rate(max(1, self._servers.get(model, 1)))

    def _new(self, info: RequestInfo, now: float, expires: float, size: int) -> Waiting:
        self._serial += 1
        tier = self._tiers.get(info.service_class, self._default)
        waiting = Waiting(info, tier, now, expires, self._serial, size)
        waiting.seconds = self._capacity.pace(self._pools.get(info.model, "")).predict(info.prompt_tokens)
        if tier.ttft is not None:
            lag = self._lags.get(info.model)
            waiting.latest = now + tier.ttft - waiting.seconds - (lag.cautious if lag else 0.0)
        waiting.end = min(waiting.latest, expires) if tier.sheddable else expires
        waiting.key = waiting.latest if waiting.latest < inf else now
        return waiting

    def _queue(self, waiting: Waiting, now: float) -> Wait | Refuse:
        info, depth = waiting.info, self.depths[waiting.tier.name]
        expected = self.expected(waiting)
        if depth.requests >= self._bounds.requests or depth.size + waiting.size > self._bounds.size:
            return Refuse(info.request_id, Reason.QUEUE_FULL, expected)
        allowed = waiting.end - now
        if expected >= allowed:
            reason = Reason.UNATTAINABLE if waiting.end < waiting.expires else Reason.DEADLINE
            return Refuse(info.request_id, reason, max(waiting.seconds, expected - allowed))
        depth.requests += 1
        depth.size += waiting.size
        self._waiting[info.request_id] = waiting
        self._lines.setdefault(info.model, Line()).add(waiting)
        self._ends.add(waiting)
        self._drain(info.model).advance(now, contended=True)
        return Wait(expected)

    def _leave(self, waiting: Waiting, now: float) -> None:
        model = waiting.info.model
        del self._waiting[waiting.info.request_id]
        line, depth = self._lines[model], self.depths[waiting.tier.name]
        line.remove(waiting)
        self._ends.remove(waiting)
        depth.requests -= 1
        depth.size -= waiting.size
        self._drain(model).advance(now, contended=bool(line))

    def _give_up(self, waiting: Waiting, now: float) -> Refuse:
        expected = self.expected(waiting)
        self._leave(waiting, now)
        info, waited = waiting.info, now - waiting.arrived
        if isinstance(self._choose(info, UNCONSTRAINED), NoChoice):
            return Refuse(info.request_id, Reason.NO_CAPACITY, self._bounds.pod_start_seconds, waited)
        reason = Reason.DEADLINE if now >= waiting.expires else Reason.UNATTAINABLE
        return Refuse(info.request_id, reason, expected, waited)

    def _start(self, waiting: Waiting, now: float) -> Start | None:
        info = waiting.info
        choice = self._choose(info, self._capacity.constraint())
        if isinstance(choice, NoChoice):
            return None
        held = self._capacity.take(choice, info.prompt_tokens, now, stream=info.stream)
        self._running[info.request_id] = Running(waiting, held, now)
        return Start(info.request_id, choice, now - waiting.arrived)

    def _dispatch(self, now: float) -> list[Decision]:
        started: list[Decision] = []
        for model, line in self._lines.items():
            while (waiting := line.first(now)) is not None:
                decision = self._start(waiting, now)
                if decision is None:
                    break
                self._drain(model).started(waiting.seconds)
                self._leave(waiting, now)
                started.append(decision)
        return started

    def _drain(self, model: str) -> Drain:
        return self._drains.setdefault(model, Drain())


def _avoiding(constraint: Constraint, names: frozenset[str]) -> Constraint:
    return Constraint(constraint.avoid | names, constraint.shun, constraint.local_only)
