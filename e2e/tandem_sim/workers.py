"""Workers that take as long as the latency model says: one prompt at a time, or a batch of decodes."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from tandem_perf.latency import Chunk, LatencyModel
from tandem_sim.clock import Clock
from tandem_sim.load import Job

Done = Callable[["Flight"], None]


@dataclass(slots=True)
class Flight:
    """A request on its way. Times in seconds; None until they have come."""

    job: Job
    queued_at: float
    first_token_at: float | None = None
    tokens: int = 0
    queue_waits: tuple[float, ...] = ()

    @property
    def kv_tokens(self) -> int:
        return self.job.prompt_tokens + self.tokens


class Prefiller:
    """Computes prompts one after another."""

    def __init__(self, clock: Clock, model: LatencyModel, started: Done, done: Done) -> None:
        self._clock, self._model = clock, model
        self._started, self._done = started, done
        self._queue: deque[Flight] = deque()
        self._current: Flight | None = None
        self.steps: deque[tuple[float, float, int]] = deque()
        """End, seconds and tokens of each prompt."""

    @property
    def running(self) -> int:
        return int(self._current is not None)

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def backlog_tokens(self) -> int:
        current = self._current.job.prompt_tokens if self._current else 0
        return current + sum(flight.job.prompt_tokens for flight in self._queue)

    @property
    def kv_usage(self) -> float:
        return 0.0

    def accept(self, flight: Flight) -> None:
        flight.queued_at = self._clock.now
        self._queue.append(flight)
        self._next()

    def _next(self) -> None:
        if self._current is not None or not self._queue:
            return
        flight = self._current = self._queue.popleft()
        flight.queue_waits += (self._clock.now - flight.queued_at,)
        self._started(flight)
        seconds = self._model.prefill.seconds([Chunk(flight.job.prompt_tokens)])
        self._clock.after(seconds, lambda: self._finish(flight, seconds))

    def _finish(self, flight: Flight, seconds: float) -> None:
        self._current = None
        self.steps.append((self._clock.now, seconds, flight.job.prompt_tokens))
        self._done(flight)
        self._next()


class Decoder:
    """Gives every sequence in its batch one token a step; a sequence waits while KV memory is full."""

    def __init__(
        self, clock: Clock, model: LatencyModel, kv_capacity: int, started: Done, done: Done
    ) -> None:
        self._clock, self._model, self._capacity = clock, model, kv_capacity
        self._started, self._done = started, done
        self._queue: deque[Flight] = deque()
        self._batch: list[Flight] = []
        self._stepping = False

    @property
    def running(self) -> int:
        return len(self._batch)

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def backlog_tokens(self) -> int:
        return 0

    @property
    def kv_usage(self) -> float:
        return min(1.0, self._kv_tokens() / self._capacity)

    def accept(self, flight: Flight) -> None:
        flight.queued_at = self._clock.now
        self._queue.append(flight)
        if not self._stepping:
            self._step()

    def _step(self) -> None:
        self._admit()
        self._stepping = bool(self._batch)
        if self._batch:
            seconds = self._model.decode.seconds(len(self._batch), self._kv_tokens())
            self._clock.after(seconds, self._emit)

    def _admit(self) -> None:
        used = self._kv_tokens()
        while self._queue and (not self._batch or used + self._queue[0].kv_tokens <= self._capacity):
            flight = self._queue.popleft()
            flight.queue_waits += (self._clock.now - flight.queued_at,)
            used += flight.kv_tokens
            self._batch.append(flight)
            self._started(flight)

    def _emit(self) -> None:
        for flight in self._batch:
            flight.tokens += 1
            flight.first_token_at = flight.first_token_at or self._clock.now
        ended = [flight for flight in self._batch if flight.tokens >= flight.job.output_tokens]
        self._batch = [flight for flight in self._batch if flight.tokens < flight.job.output_tokens]
        for flight in ended:
            self._done(flight)
        self._step()

    def _kv_tokens(self) -> int:
        return sum(flight.kv_tokens for flight in self._batch)
