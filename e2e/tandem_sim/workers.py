"""Workers that take as long as the latency model says: one prompt at a time, or a batch of decodes."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from tandem_perf.latency import Chunk, LatencyModel
from tandem_sim.clock import Clock
from tandem_sim.load import Job
from tandem_sim.log import Log


@dataclass(slots=True)
class Flight:
    """A request on its way; moments in seconds, infinite until they have come."""

    job: Job
    queued_at: float = math.inf
    first_token_at: float = math.inf
    tokens: int = 0

    @property
    def kv_tokens(self) -> int:
        return self.job.prompt_tokens + self.tokens


@dataclass(frozen=True, slots=True)
class Step:
    """One prompt computed, or one token given to each sequence of a batch."""

    seconds: float
    tokens: int


Done = Callable[[Flight], None]


class Prefiller:
    """Computes prompts one after another; `waits` gets how long each had to wait."""

    kv_usage = 0.0

    def __init__(self, clock: Clock, model: LatencyModel, waits: Log[float], done: Done) -> None:
        self._clock, self._model = clock, model
        self._waits, self._done = waits, done
        self._queue: deque[Flight] = deque()
        self._current: Flight | None = None
        self.backlog_tokens = 0
        self.steps: Log[Step] = Log()

    @property
    def running(self) -> int:
        return int(self._current is not None)

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def accept(self, flight: Flight) -> None:
        flight.queued_at = self._clock.now
        self.backlog_tokens += flight.job.prompt_tokens
        self._queue.append(flight)
        if self._current is None:
            self._start()

    def _start(self) -> None:
        flight = self._current = self._queue.popleft()
        self._waits.add(self._clock.now, self._clock.now - flight.queued_at)
        seconds = self._model.prefill.seconds([Chunk(flight.job.prompt_tokens)])
        self._clock.after(seconds, lambda: self._finish(flight, seconds))

    def _finish(self, flight: Flight, seconds: float) -> None:
        self._current = None
        self.backlog_tokens -= flight.job.prompt_tokens
        self.steps.add(self._clock.now, Step(seconds, flight.job.prompt_tokens))
        self._done(flight)
        if self._queue:
            self._start()


class Decoder:
    """Gives every sequence in its batch one token a step; a sequence waits while KV memory is full."""

    backlog_tokens = 0

    def __init__(
        self, clock: Clock, model: LatencyModel, kv_capacity: int, waits: Log[float], done: Done
    ) -> None:
        self._clock, self._model, self._capacity = clock, model, kv_capacity
        self._waits, self._done = waits, done
        self._queue: deque[Flight] = deque()
        self._batch: list[Flight] = []
        self._kv_tokens = 0
        self._stepping = False
        self.steps: Log[Step] = Log()

    @property
    def running(self) -> int:
        return len(self._batch)

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def kv_usage(self) -> float:
        return min(1.0, self._kv_tokens / self._capacity)

    def accept(self, flight: Flight) -> None:
        flight.queued_at = self._clock.now
        self._queue.append(flight)
        if not self._stepping:
            self._step()

    def _step(self) -> None:
        while self._queue and (not self._batch or self._fits(self._queue[0])):
            flight = self._queue.popleft()
            self._waits.add(self._clock.now, self._clock.now - flight.queued_at)
            self._kv_tokens += flight.kv_tokens
            self._batch.append(flight)
        self._stepping = bool(self._batch)
        if self._stepping:
            seconds = self._model.decode.seconds(len(self._batch), self._kv_tokens)
            self._clock.after(seconds, lambda: self._emit(seconds))

    def _emit(self, seconds: float) -> None:
        self.steps.add(self._clock.now, Step(seconds, len(self._batch)))
        ended = []
        for flight in self._batch:
            flight.tokens += 1
            if flight.tokens == 1:
                flight.first_token_at = self._clock.now
            if flight.tokens >= flight.job.output_tokens:
                ended.append(flight)
        self._kv_tokens += len(self._batch)
        for flight in ended:
            self._batch.remove(flight)
            self._kv_tokens -= flight.kv_tokens
            self._done(flight)
        self._step()

    def _fits(self, flight: Flight) -> bool:
        return self._kv_tokens + flight.kv_tokens <= self._capacity
