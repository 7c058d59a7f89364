"""A worker: continuous batching with chunked prefill, a prefix cache, KV memory that runs out, refusals."""

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from random import Random

from tandem_perf.latency import Chunk
from tandem_router.types import Endpoint, Report
from tandem_sim.clock import Clock
from tandem_sim.serving.cache import PrefixCache
from tandem_sim.serving.calls import Call
from tandem_sim.serving.machine import Machine


def _nothing() -> None:
    pass


@dataclass(slots=True, eq=False)
class Task:
    """One leg on one worker. `from_peer`: its KV comes from there; `keeps`: its KV waits for a peer.

    `first` is called with the first token, `end` with the last one (of a prefill leg: both at once).
    """

    call: Call
    first: Callable[[], None] = _nothing
    end: Callable[[], None] = _nothing
    keeps: bool = False
    from_peer: "Worker | None" = None
    peer_task: "Task | None" = None
    cached: int = 0
    prompt_tokens: int = 0
    computed: int = 0
    kv_tokens: int = 0
    started_step: int = 0
    last_step: int = 0
    generated: int = 0
    began: bool = False


class Worker:
    """One process of a fleet. Steps run back to back while there is something to compute."""

    def __init__(self, clock: Clock, endpoint: Endpoint, machine: Machine, random: Random) -> None:
        self.endpoint, self.machine = endpoint, machine
        self._clock, self._random = clock, random
        self.cache = PrefixCache(machine.kv_tokens)
        self._waiting: deque[Task] = deque()
        self._pulls: deque[Task] = deque()
        self._joining: list[Task] = []
        self._batch: dict[Task, None] = {}
        self._fresh: list[Task] = []
        self._ends: list[tuple[int, int, Task]] = []
        self._order = count()
        self._step = 0
        self._stepping = False
        self._pulling = 0
        self._kv = 0
        self._batch_kv = 0
        self.refusals = 0
        self.preemptions = 0
        self.busy_seconds = 0.0

    @property
    def running(self) -> int:
        return len(self._batch) + len(self._joining) + self._pulling

    @property
    def backlog_tokens(self) -> int:
        return sum(task.prompt_tokens - task.computed for task in self._waiting)

    def report(self) -> Report:
        """What it says of itself."""
        return Report(
            running=self.running,
            waiting=len(self._waiting) + len(self._pulls),
            backlog_tokens=self.backlog_tokens,
            kv_used=min(1.0, self._kv / self.machine.kv_tokens),
            kv_tokens=self.machine.kv_tokens,
        )

    def matched(self, call: Call) -> int:
        """Prompt tokens that it has cached; one at least is computed."""
        return min(call.prompt_tokens - 1, self.cache.match(call.blocks) * call.block_tokens)

    def submit(self, task: Task) -> bool:
        """Takes a leg on, or refuses it."""
        if self._full():
            self.refusals += 1
            return False
        task.prompt_tokens = task.call.prompt_tokens
        if task.from_peer is None:
            self._waiting.append(task)
        else:
            self._pulls.append(task)
            self._pull()
        self._wake()
        return True

    def release(self, task: Task) -> None:
        """Its KV has been pulled, or nobody will."""
        self._free(task)
        self._pull()
        self._wake()

    def _full(self) -> bool:
        machine = self.machine
        if self.running + len(self._waiting) + len(self._pulls) >= machine.max_running:
            return True
        return bool(self._waiting) and self.backlog_tokens >= machine.max_backlog_tokens

    def _take(self, task: Task) -> bool:
        """Room for the prompt's KV; an empty worker takes anything."""
        if self._kv and self._kv + task.prompt_tokens > self.machine.kv_tokens:
            return False
        task.kv_tokens = task.prompt_tokens
        self._kv += task.kv_tokens
        return True

    def _free(self, task: Task) -> None:
        self._kv -= task.kv_tokens
        task.kv_tokens = 0

    def _pull(self) -> None:
        while self._pulls and self._take(self._pulls[0]):
            task = self._pulls.popleft()
            lacking = task.prompt_tokens - self.matched(task.call)
            seconds = self.machine.transfer_seconds(lacking, self._clock.now, self._random)
            self._pulling += 1
            self._clock.after(seconds, partial(self._pulled, task))

    def _pulled(self, task: Task) -> None:
        self._pulling -= 1
        if task.from_peer is not None and task.peer_task is not None:
            task.from_peer.release(task.peer_task)
        self.cache.insert(task.call.blocks, task.call.block_tokens)
        self._joining.append(task)
        self._wake()

    def _wake(self) -> None:
        if not self._stepping and (self._waiting or self._joining or self._batch):
            self._start()

    def _start(self) -> None:
        for task in self._joining:
            self._join(task)
        self._joining.clear()
        while len(self._batch) > 1 and self._kv + len(self._batch) > self.machine.kv_tokens:
            self._preempt()
        chunks = self._chunks()
        if not chunks and not self._batch:
            return
        self._stepping = True
        now = self._clock.now
        work = [Chunk(tokens, task.computed) for task, tokens in chunks]
        seconds = self.machine.step_seconds(work, len(self._batch), self._batch_kv, now, self._random)
        self.busy_seconds += seconds
        self._clock.after(seconds, lambda: self._finish(chunks))

    def _chunks(self) -> list[tuple[Task, int]]:
        """Prompts in order of their coming, as much of them as the step has room for."""
        room, chunks = self.machine.step_tokens - len(self._batch), []
        for task in self._waiting:
            if room <= 0:
                break
            if not task.kv_tokens:
                if not self._take(task):
                    break
                task.cached = task.computed = self.matched(task.call) if not task.generated else 0
            tokens = min(room, task.prompt_tokens - task.computed)
            chunks.append((task, tokens))
            room -= tokens
        return chunks

    def _join(self, task: Task) -> None:
        self._batch[task] = None
        self._batch_kv += task.kv_tokens
        task.started_step = self._step
        task.last_step = self._step + task.call.output_tokens - task.generated
        heapq.heappush(self._ends, (task.last_step, next(self._order), task))
        if not task.began:
            self._fresh.append(task)

    def _finish(self, chunks: list[tuple[Task, int]]) -> None:
        self._step += 1
        self._kv += len(self._batch)
        self._batch_kv += len(self._batch)
        fresh, self._fresh = self._fresh, []
        for task in fresh:
            task.began = True
            task.first()
        while self._ends and self._ends[0][0] <= self._step:
            last, _, task = heapq.heappop(self._ends)
            if task in self._batch and task.last_step == last:
                self._leave(task)
                task.end()
        for task, tokens in chunks:
            task.computed += tokens
            if task.computed >= task.prompt_tokens:
                self._computed(task)
        # Not before: what the callbacks gave rise to belongs to the next step.
        self._stepping = False
        self._pull()
        self._wake()

    def _computed(self, task: Task) -> None:
        self._waiting.remove(task)
        self.cache.insert(task.call.blocks, task.call.block_tokens)
        if task.keeps:
            task.end()
            return
        if not task.began:
            task.began = True
            task.generated = 1
            task.first()
        if task.generated >= task.call.output_tokens:
            self._free(task)
            task.end()
        else:
            self._join(task)

    def _leave(self, task: Task) -> None:
        self._account(task)
        del self._batch[task]
        self._batch_kv -= task.kv_tokens
        self._free(task)

    def _account(self, task: Task) -> None:
        """Counts what it generated since it joined."""
        grown = self._step - task.started_step
        task.generated += grown
        task.kv_tokens += grown
        task.started_step = self._step

    def _preempt(self) -> None:
        """The youngest stream gives its KV up and is computed again later."""
        task = next(reversed(self._batch))
        self._leave(task)
        self.preemptions += 1
        task.prompt_tokens = task.call.prompt_tokens + task.generated
        task.computed = 0
        self._waiting.appendleft(task)
