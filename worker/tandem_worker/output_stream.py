"""The outputs of one request, from the engine to whoever answers it."""

import asyncio
from collections import deque

from tandem_worker.errors import WorkerError
from tandem_worker.request import StepOutput

OUTPUT_SECONDS = 600.0


class OutputStream:
    """Iterate over it once. It never holds more than the request's `max_tokens` outputs.

    Raises the error that ended the engine, or TimeoutError when nothing comes for `OUTPUT_SECONDS`.
    """

    def __init__(self) -> None:
        self.is_finished = False
        self._outputs: deque[StepOutput] = deque()
        self._error: WorkerError | None = None
        self._arrived = asyncio.Event()

    def put(self, output: StepOutput) -> None:
        self._outputs.append(output)
        self.is_finished = output.finish_reason is not None
        self._arrived.set()

    def fail(self, error: WorkerError) -> None:
        self._error = error
        self._arrived.set()

    def __aiter__(self) -> "OutputStream":
        return self

    async def __anext__(self) -> StepOutput:
        while not self._outputs:
            if self.is_finished:
                raise StopAsyncIteration
            if self._error is not None:
                raise self._error
            self._arrived.clear()
            async with asyncio.timeout(OUTPUT_SECONDS):
                await self._arrived.wait()
        return self._outputs.popleft()
