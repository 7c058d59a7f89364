"""A service in virtual time: two pools of workers that start with a delay, drain when they leave, and are measured."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from tandem_operator.planner.types import Observation, PlannedPool, PoolObservation
from tandem_perf.latency import LatencyModel
from tandem_perf.slo import Outcome, Slo, attainment, mean_tpot
from tandem_sim.clock import Clock
from tandem_sim.load import Job
from tandem_sim.workers import Decoder, Flight, Prefiller

Worker = Prefiller | Decoder


@dataclass(frozen=True, slots=True)
class Hardware:
    """One worker, and how long a new one takes to be ready."""

    model: LatencyModel
    kv_bytes_per_token: int
    kv_capacity: int
    """Tokens that a decode worker's KV memory holds."""
    start_seconds: float


class Pool:
    """Workers of one role. Least loaded first; a worker that leaves finishes what it has."""

    def __init__(self, clock: Clock, make: Callable[[], Worker], replicas: int, start_seconds: float) -> None:
        self._clock, self._make, self._start_seconds = clock, make, start_seconds
        self.desired = replicas
        self.ready = [make() for _ in range(replicas)]
        self.waits: deque[tuple[float, float]] = deque()
        """When a request was scheduled, and how long it had waited."""

    def scale(self, replicas: int) -> None:
        for _ in range(replicas - self.desired):
            self._clock.after(self._start_seconds, self._add)
        self.desired = replicas
        del self.ready[replicas:]

    def dispatch(self, flight: Flight) -> None:
        min(self.ready, key=lambda worker: worker.running + worker.waiting).accept(flight)

    def scheduled(self, flight: Flight) -> None:
        self.waits.append((self._clock.now, flight.queue_waits[-1]))

    def observe(self, window: float) -> PoolObservation:
        since = self._clock.now - window
        waits = [wait for at, wait in self.waits if at > since]
        steps = [step for w in self.ready if isinstance(w, Prefiller) for step in w.steps if step[0] > since]
        busy, tokens = sum(step[1] for step in steps), sum(step[2] for step in steps)
        return PoolObservation(
            workers=len(self.ready),
            running=sum(worker.running for worker in self.ready),
            waiting=sum(worker.waiting for worker in self.ready),
            backlog_tokens=sum(worker.backlog_tokens for worker in self.ready),
            kv_usage=sum(worker.kv_usage for worker in self.ready) / len(self.ready),
            queue_wait=sum(waits) / len(waits) if waits else 0.0,
            prefill_busy=busy / (window * len(self.ready)),
            prefill_rate=tokens / busy if busy else None,
        )

    def _add(self) -> None:
        if len(self.ready) < self.desired:
            self.ready.append(self._make())


class Cluster:
    """One prefill pool and one decode pool, and the requests that went through them."""

    def __init__(self, clock: Clock, hardware: Hardware, slo: Slo, prefill: int, decode: int) -> None:
        self._clock, self._hardware, self._slo = clock, hardware, slo
        start = hardware.start_seconds
        self.pools = {
            "prefill": Pool(clock, self._prefiller, prefill, start),
            "decode": Pool(clock, self._decoder, decode, start),
        }
        self.finished: list[tuple[float, Outcome]] = []
        self.in_flight = 0

    def submit(self, job: Job) -> None:
        """A request arrives now."""
        self.in_flight += 1
        self.pools["prefill"].dispatch(Flight(job, self._clock.now))

    def observe(self, window: float) -> Observation:
        """What telemetry would say of the last `window` seconds."""
        since = self._clock.now - window
        recent = attainment([outcome for at, outcome in self.finished if at > since], self._slo)
        pools = {name: pool.observe(window) for name, pool in self.pools.items()}
        return Observation(window, recent.requests, recent.ttft, recent.tpot, pools)

    def planned(self, minimum: int, maximum: int) -> list[PlannedPool]:
        """The pools as the planner takes them."""
        return [
            PlannedPool(name, role, self.pools[name].desired, len(self.pools[name].ready), minimum, maximum)
            for name, role in (("prefill", "prefill"), ("decode", "decode"))
        ]

    def _prefiller(self) -> Prefiller:
        return Prefiller(
            self._clock, self._hardware.model, lambda f: self.pools["prefill"].scheduled(f), self._hand_over
        )

    def _decoder(self) -> Decoder:
        capacity = self._hardware.kv_capacity
        return Decoder(
            self._clock,
            self._hardware.model,
            capacity,
            lambda f: self.pools["decode"].scheduled(f),
            self._end,
        )

    def _hand_over(self, flight: Flight) -> None:
        num_bytes = flight.job.prompt_tokens * self._hardware.kv_bytes_per_token
        seconds = self._hardware.model.transfer.seconds(num_bytes)
        self._clock.after(seconds, lambda: self.pools["decode"].dispatch(flight))

    def _end(self, flight: Flight) -> None:
        self.in_flight -= 1
        first = flight.first_token_at
        if first is None:
            raise RuntimeError("a request ended before its first token")
        ttft, duration = first - flight.job.at, self._clock.now - flight.job.at
        self.finished.append((self._clock.now, Outcome(ttft, mean_tpot(ttft, duration, flight.tokens))))
