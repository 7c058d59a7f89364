"""The engine for asyncio: calls that run between its steps, and a stream of outputs for each request."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from tandem_worker.engine import Engine
from tandem_worker.engine_thread import EngineThread, EngineUpdate
from tandem_worker.errors import WorkerError
from tandem_worker.output_stream import OutputStream
from tandem_worker.request import EngineLoad, Request, SeedToken, StepOutput

logger = logging.getLogger(__name__)

MAX_CALLS = 64
CALL_SECONDS = 120.0

T = TypeVar("T")


class EngineDeadError(WorkerError):
    """The engine's thread has ended: nothing runs here any more."""


class OverloadedError(WorkerError):
    """More requests are open than may wait."""


class AsyncEngine:
    """Create and use it inside one event loop.

    The command queue is bounded by construction: `MAX_CALLS` calls, and what streams and leases free, once
    each. `max_open` bounds the streams. `on_update` is called in the loop after each change; None tells that
    the engine has failed.
    """

    def __init__(
        self, engine: Engine, max_open: int, on_update: Callable[[EngineUpdate | None], None]
    ) -> None:
        self.load: EngineLoad = engine.load()
        self._max_open = max_open
        self._on_update = on_update
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(MAX_CALLS)
        self._streams: dict[str, OutputStream] = {}
        self._calls: set[asyncio.Future[Any]] = set()
        self._failure: str | None = None
        self._thread = EngineThread(
            engine,
            lambda update: self._tell(self._take_update, update),
            lambda error: self._tell(self._fail, f"the engine failed: {type(error).__name__}: {error}"),
        )
        self._thread.start()

    @property
    def failure(self) -> str | None:
        """Why nothing runs here any more; None while the engine lives."""
        return self._failure

    @property
    def num_open(self) -> int:
        return len(self._streams)

    @asynccontextmanager
    async def submit(self, request: Request) -> AsyncIterator[OutputStream]:
        """Runs a request; leaving the block before its end aborts it.

        Raises `RequestError`, `OverloadedError`, `EngineDeadError`.
        """
        async with self.open_stream(request.request_id) as stream:
            await self.call(lambda engine: engine.add(request))
            yield stream

    @asynccontextmanager
    async def open_stream(self, request_id: str) -> AsyncIterator[OutputStream]:
        """The outputs of a request that the caller enters; leaving the block aborts it in the engine."""
        self._check_alive()
        if len(self._streams) >= self._max_open:
            raise OverloadedError(f"{len(self._streams)} requests are open: no more may wait here")
        if request_id in self._streams:
            raise ValueError(f"request {request_id} is open already")
        self._streams[request_id] = stream = OutputStream()
        try:
            yield stream
        finally:
            del self._streams[request_id]
            if not stream.is_finished:
                self.post(lambda engine: engine.abort(request_id))

    async def commit_import(self, request_id: str, seed: SeedToken | None) -> None:
        """The seed reaches the request's stream before any output of a later step."""

        def commit(engine: Engine) -> None:
            self._tell(self._deliver, engine.commit_import(request_id, seed).outputs)

        await self.call(commit)

    async def call(self, command: Callable[[Engine], T]) -> T:
        """Runs the command between two steps; gives its result or raises its error.

        Cancelled, or after `CALL_SECONDS` (TimeoutError), the command may still run.
        """
        async with asyncio.timeout(CALL_SECONDS), self._slots:
            self._check_alive()
            future: asyncio.Future[T] = self._loop.create_future()
            self._calls.add(future)
            self._thread.put(lambda engine: self._answer(future, command, engine))
            try:
                return await future
            finally:
                self._calls.discard(future)

    def post(self, command: Callable[[Engine], object]) -> None:
        """Runs a command that frees something, without waiting for it."""
        if self._failure is None:
            self._thread.put(lambda engine: _run_logged(command, engine))

    async def stop(self) -> None:
        """Fails what is still open and ends the thread."""
        if self._failure is None:
            self._fail("the worker is shutting down")
        if not await asyncio.to_thread(self._thread.stop):
            logger.error("the engine is stuck in a step: its thread is left behind")

    def _check_alive(self) -> None:
        if self._failure is not None:
            raise EngineDeadError(self._failure)

    def _answer(self, future: asyncio.Future[T], command: Callable[[Engine], T], engine: Engine) -> None:
        try:
            result = command(engine)
        except Exception as error:
            self._tell(_set_exception, future, error)
        else:
            self._tell(_set_result, future, result)

    def _tell(self, callback: Callable[..., None], *args: object) -> None:
        """From the thread to the loop, in order."""
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            logger.debug("the event loop has ended before the engine")

    def _take_update(self, update: EngineUpdate) -> None:
        self.load = update.load
        if update.report is not None:
            self._deliver(update.report.outputs)
        self._on_update(update)

    def _deliver(self, outputs: tuple[StepOutput, ...]) -> None:
        for output in outputs:
            stream = self._streams.get(output.request_id)
            if stream is not None:
                stream.put(output)

    def _fail(self, reason: str) -> None:
        self._failure = reason
        for stream in self._streams.values():
            stream.fail(EngineDeadError(reason))
        for future in self._calls:
            _set_exception(future, EngineDeadError(reason))
        self._on_update(None)


def _set_result(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _set_exception(future: asyncio.Future[T], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def _run_logged(command: Callable[[Engine], object], engine: Engine) -> None:
    try:
        command(engine)
    except Exception:
        logger.exception("a clean-up in the engine failed")
