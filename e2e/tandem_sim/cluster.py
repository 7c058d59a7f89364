"""A service in virtual time: pools whose workers start with a delay and drain when they leave, measured."""

from collections.abc import Callable
from dataclasses import dataclass

from tandem_operator.api import Role
from tandem_operator.planner.types import Observation, PlannedPool, PoolObservation
from tandem_perf.latency import LatencyModel
from tandem_perf.slo import Outcome, Slo, attainment, mean_tpot
from tandem_sim.clock import Clock
from tandem_sim.load import Job
from tandem_sim.log import Log
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

    def __init__(
        self, clock: Clock, make: Callable[[Log[float]], Worker], replicas: int, start_seconds: float
    ) -> None:
        self._clock, self._make, self._start_seconds = clock, make, start_seconds
        self._waits: Log[float] = Log()
        self.desired = replicas
        self.ready = [make(self._waits) for _ in range(replicas)]

    def scale(self, replicas: int) -> None:
        for _ in range(replicas - self.desired):
            self._clock.after(self._start_seconds, self._add)
        self.desired = replicas
        del self.ready[replicas:]

    def dispatch(self, flight: Flight) -> None:
        min(self.ready, key=lambda worker: worker.running + worker.waiting).accept(flight)

    def observe(self, window: float) -> PoolObservation:
        since = self._clock.now - window
        workers, waits = self.ready, self._waits.since(since)
        steps = [step for worker in workers for step in worker.steps.since(since)]
        busy, tokens = sum(step.seconds for step in steps), sum(step.tokens for step in steps)
        prefill = isinstance(workers[0], Prefiller)
        return PoolObservation(
            workers=len(workers),
            running=sum(worker.running for worker in workers),
            waiting=sum(worker.waiting for worker in workers),
            backlog_tokens=sum(worker.backlog_tokens for worker in workers),
            kv_usage=sum(worker.kv_usage for worker in workers) / len(workers),
            queue_wait=sum(waits) / len(waits) if waits else None,
            prefill_busy=busy / (window * len(workers)) if prefill else 0.0,
            prefill_rate=tokens / busy if prefill and steps else None,
            rate=len(waits) / window,
            decode_step=busy / len(steps) if steps and not prefill else None,
        )

    def _add(self) -> None:
        if len(self.ready) < self.desired:
            self.ready.append(self._make(self._waits))


class Cluster:
    """One prefill pool and one decode pool, and the requests that went through them."""

    def __init__(self, clock: Clock, hardware: Hardware, slo: Slo, replicas: int) -> None:
        self._clock, self._hardware, self._slo = clock, hardware, slo
        self.pools: dict[Role, Pool] = {
            "prefill": Pool(clock, self._prefiller, replicas, hardware.start_seconds),
            "decode": Pool(clock, self._decoder, replicas, hardware.start_seconds),
        }
        self.finished: Log[Outcome] = Log()
        self.in_flight = 0

    def submit(self, job: Job) -> None:
        """A request arrives now."""
        self.in_flight += 1
        self.pools["prefill"].dispatch(Flight(job))

    def observe(self, window: float) -> Observation:
        """What telemetry would say of the last `window` seconds."""
        report = attainment(self.finished.since(self._clock.now - window), self._slo)
        pools: dict[str, PoolObservation] = {role: pool.observe(window) for role, pool in self.pools.items()}
        return Observation(window, report.requests, report.ttft, report.tpot, pools)

    def planned(self, minimum: int, maximum: int) -> list[PlannedPool]:
        """The pools as the planner takes them."""
        return [
            PlannedPool(role, role, pool.desired, len(pool.ready), minimum, maximum)
            for role, pool in self.pools.items()
        ]

    def _prefiller(self, waits: Log[float]) -> Prefiller:
        return Prefiller(self._clock, self._hardware.model, waits, self._hand_over)

    def _decoder(self, waits: Log[float]) -> Decoder:
        hardware = self._hardware
        return Decoder(self._clock, hardware.model, hardware.kv_capacity, waits, self._end)

    def _hand_over(self, flight: Flight) -> None:
        num_bytes = flight.job.prompt_tokens * self._hardware.kv_bytes_per_token
        seconds = self._hardware.model.transfer.seconds(num_bytes)
        self._clock.after(seconds, lambda: self.pools["decode"].dispatch(flight))

    def _end(self, flight: Flight) -> None:
        self.in_flight -= 1
        ttft, duration = flight.first_token_at - flight.job.at, self._clock.now - flight.job.at
        self.finished.add(self._clock.now, Outcome(ttft, mean_tpot(ttft, duration, flight.tokens)))
