"""The thread that owns the engine: it alone calls it, commands between steps."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Event, Thread
from time import perf_counter

from tandem_worker.engine import Engine
from tandem_worker.kv import KvEvent
from tandem_worker.request import EngineLoad, StepReport

logger = logging.getLogger(__name__)

IDLE_WAIT_SECONDS = 1.0
JOIN_SECONDS = 30.0

Command = Callable[[Engine], None]


@dataclass(frozen=True, slots=True)
class EngineUpdate:
    """What a step, or the commands between two steps (`report` None), changed."""

    load: EngineLoad
    kv_events: tuple[KvEvent, ...]
    report: StepReport | None = None
    step_seconds: float = 0.0


class EngineThread:
    """Runs commands in the order of `put`, and steps while there is work.

    Both callbacks are called on the thread. A command must not raise; a step that raises ends the thread,
    after `on_failure`. The queue has no bound of its own: see `AsyncEngine` for what bounds it.
    """

    def __init__(
        self,
        engine: Engine,
        on_update: Callable[[EngineUpdate], None],
        on_failure: Callable[[Exception], None],
    ) -> None:
        self._engine = engine
        self._load = engine.load()
        self._on_update = on_update
        self._on_failure = on_failure
        self._commands: SimpleQueue[Command] = SimpleQueue()
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, command: Command) -> None:
        self._commands.put(command)

    def stop(self) -> bool:
        """Ends the thread after the commands that are queued now. False: it is stuck in a step."""
        self._stopping.set()
        self.put(_wake)
        self._thread.join(JOIN_SECONDS)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            is_idle = True
            while not self._stopping.is_set():
                self._run_commands(IDLE_WAIT_SECONDS if is_idle else 0.0)
                is_idle = not self._engine.has_work() or self._step()
            self._run_commands(0.0)
        except Exception as error:
            logger.exception("the engine failed: every request on it fails now")
            self._on_failure(error)

    def _run_commands(self, wait_seconds: float) -> None:
        """Runs what is queued now. What comes meanwhile has to wait for the next step."""
        num_queued = self._commands.qsize()
        try:
            command = self._commands.get(block=wait_seconds > 0, timeout=wait_seconds)
        except Empty:
            return
        command(self._engine)
        for _ in range(num_queued - 1):
            self._commands.get_nowait()(self._engine)
        load, events = self._engine.load(), tuple(self._engine.drain_kv_events())
        if events or load != self._load:
            self._publish(EngineUpdate(load, events))

    def _step(self) -> bool:
        """True: there was no room for anything, until blocks are released."""
        started = perf_counter()
        report = self._engine.step()
        seconds = perf_counter() - started
        events = tuple(self._engine.drain_kv_events())
        self._publish(EngineUpdate(self._engine.load(), events, report, seconds))
        return report.is_idle

    def _publish(self, update: EngineUpdate) -> None:
        self._load = update.load
        self._on_update(update)


def _wake(_engine: Engine) -> None:
    """Ends the wait for a command."""
