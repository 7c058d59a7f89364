"""How much each worker has been given, and which have no room now."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf

from tandem_router.loads import LoadBook
from tandem_router.queueing.pace import Pace
from tandem_router.types import UNCONSTRAINED, Choice, Constraint, Endpoint, Report

FIRST_PAUSE = 0.02
LONGEST_PAUSE = 1.0
"""A worker that refuses is asked again after this, in seconds; from the first to the longest by doubling."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one worker is given at a time: prefill work in seconds, sequences to decode, share of its KV."""

    prefill_seconds: float = 0.25
    decodes: int = 256
    kv_used: float = 0.95


@dataclass(slots=True)
class Worker:
    """What this router has running there. `closed_until`: it refused, and is not asked before."""

    prefills: int = 0
    seconds: float = 0.0
    decodes: int = 0
    last_end: float = 0.0
    closed_until: float = 0.0
    pause: float = FIRST_PAUSE


@dataclass(slots=True)
class Held:
    """What one running request holds. `prefill` None: its prompt is done, or nobody can see when it is."""

    tokens: int
    seconds: float
    since: float
    prefill: Endpoint | None
    decode: Endpoint | None
    counted: tuple[str, ...] = ()


class Capacity:
    """The account of every worker, kept by `take` and the two `end_` methods. `loads` is kept in step."""

    def __init__(self, limits: Limits, loads: LoadBook, reports: Mapping[str, Report]) -> None:
        self._limits, self._loads, self._reports = limits, loads, reports
        self._workers: dict[str, Worker] = {}
        self._paces: dict[str, Pace] = {}
        self._full: set[str] = set()
        self._closed: set[str] = set()
        self._constraint: Constraint | None = UNCONSTRAINED

    def constraint(self) -> Constraint:
        """Rules out the workers without room."""
        if self._constraint is None:
            blocked = frozenset(self._full | self._closed)
            self._constraint = Constraint(full=blocked) if blocked else UNCONSTRAINED
        return self._constraint

    def pace(self, pool: str) -> Pace:
        return self._paces.setdefault(pool, Pace())

    def take(self, choice: Choice, tokens: int, now: float, *, stream: bool) -> Held:
        """Counts a request on its workers, until `end_prefill` and `end_decode`."""
        side = choice.prefill or choice.decode
        # A whole answer of one worker does not show when its prompt was done.
        prefill = side if choice.prefill is not None or stream else None
        held = Held(tokens, self.pace(side.pool).predict(tokens), now, prefill, choice.decode)
        held.counted = tuple({side.name, choice.decode.name})
        for name in held.counted:
            self._loads.begin(name, tokens)
        if prefill is not None:
            worker = self.worker(prefill.name)
            worker.prefills += 1
            worker.seconds += held.seconds
        self.worker(choice.decode.name).decodes += 1
        for name in held.counted:
            self._judge(name)
        return held

    def end_prefill(self, held: Held, now: float, *, done: bool) -> bool:
        """The prompt was computed (`done`) or given up. Whether this made room."""
        endpoint = held.prefill
        if endpoint is None:
            return False
        held.prefill = None
        worker = self.worker(endpoint.name)
        if done:
            worker.pause = FIRST_PAUSE
            self.pace(endpoint.pool).learn(held.tokens, now - max(held.since, worker.last_end))
            worker.last_end = now
        worker.prefills -= 1
        worker.seconds = worker.seconds - held.seconds if worker.prefills else 0.0
        if held.decode is None or held.decode.name != endpoint.name:
            self._uncount(held, endpoint.name)
        return self._judge(endpoint.name)

    def end_decode(self, held: Held, now: float) -> bool:
        """Nothing of the request runs any more. Whether this made room."""
        roomier = self.end_prefill(held, now, done=False)
        if held.decode is None:
            return roomier
        name = held.decode.name
        held.decode = None
        self.worker(name).decodes -= 1
        self._uncount(held, name)
        return self._judge(name) or roomier

    def busy(self, name: str, now: float) -> None:
        """The worker refused: it is closed for a moment, longer each time until it takes something."""
        worker = self.worker(name)
        worker.closed_until = now + worker.pause
        worker.pause = min(LONGEST_PAUSE, worker.pause * 2)
        self._closed.add(name)
        self._constraint = None

    def closed(self) -> frozenset[str]:
        """The workers that refused a moment ago."""
        return frozenset(self._closed)

    def reopen(self, now: float) -> bool:
        """Opens the workers whose pause is over. Whether there was one."""
        if not self._closed:
            return False
        over = [name for name in self._closed if self._workers[name].closed_until <= now]
        self._closed.difference_update(over)
        if over:
            self._constraint = None
        return bool(over)

    def next_opening(self) -> float:
        """Clock time of the next `reopen` that opens something."""
        return min((self._workers[name].closed_until for name in self._closed), default=inf)

    def any_open(self, names: Iterable[str]) -> bool:
        """Whether one of them has room."""
        return not all(name in self._full or name in self._closed for name in names)

    def kv_used(self) -> float | None:
        """The fullest worker's share of KV in use, None if nobody tells."""
        told = (self._reports[name].kv_used for name in self._workers if name in self._reports)
        return max((used for used in told if used is not None), default=None)

    def reported(self) -> bool:
        """Looks at all reports again. Whether one made room."""
        roomier = [name for name in self._workers if self._judge(name)]
        return bool(roomier)

    def keep(self, names: frozenset[str]) -> None:
        """Forgets workers that are neither in `names` nor running anything."""
        for name, worker in list(self._workers.items()):
            if name not in names and not worker.prefills and not worker.decodes:
                del self._workers[name]
                self._full.discard(name)
                self._closed.discard(name)
                self._constraint = None

    def worker(self, name: str) -> Worker:
        """Its account."""
        worker = self._workers.get(name)
        if worker is None:
            worker = self._workers[name] = Worker()
        return worker

    def _uncount(self, held: Held, name: str) -> None:
        self._loads.end(name, held.tokens)
        held.counted = tuple(counted for counted in held.counted if counted != name)

    def _judge(self, name: str) -> bool:
        """Notes whether the worker is full. True if it was and is not any more."""
        worker, limits = self._workers[name], self._limits
        full = worker.seconds >= limits.prefill_seconds or worker.decodes >= limits.decodes
        report = self._reports.get(name)
        if report is not None and report.fresh and worker.decodes and report.kv_used is not None:
            full = full or report.kv_used >= limits.kv_used
        was = name in self._full
        if full is not was:
            (self._full.add if full else self._full.discard)(name)
            self._constraint = None
        return was and not full
