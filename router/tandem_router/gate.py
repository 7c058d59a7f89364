"""The queue for asyncio: a future for each request that waits, one timer, and none while nobody waits."""

import asyncio
from collections.abc import Iterable
from math import ceil, inf

from tandem_router.errors import ApiError, deadline_exceeded, no_capacity, queue_full, unattainable
from tandem_router.moves import Leg
from tandem_router.queueing.decisions import Decision, Reason, Refuse, Served, Start, Wait
from tandem_router.queueing.scheduler import Scheduler
from tandem_router.types import Choice, Constraint, Endpoint, NoChoice, RequestInfo


class Gate:
    """Carries a Scheduler's decisions to the requests that wait for them."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self._loop = asyncio.get_running_loop()
        self._futures: dict[str, asyncio.Future[Choice]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._wakes = inf

    async def enter(self, info: RequestInfo, expires: float, size: int) -> Choice:
        """The workers for a new request, now or when its turn comes. Raises ApiError if it is refused.

        Whatever comes of it, `leave` ends it.
        """
        answer = self.scheduler.submit(info, self._loop.time(), expires=expires, size=size)
        if isinstance(answer, Start):
            return answer.choice
        if isinstance(answer, Refuse):
            raise refusal(answer, info)
        return await self._wait(info)

    async def again(self, info: RequestInfo, constraint: Constraint) -> Choice | NoChoice:
        """Other workers after a failure, as `enter`."""
        answer = self.scheduler.again(info.request_id, constraint, self._loop.time())
        if isinstance(answer, Wait):
            return await self._wait(info)
        self._advance()
        return answer.choice if isinstance(answer, Start) else answer

    def prefilled(self, request_id: str) -> None:
        """The prefill leg was answered."""
        self._act(self.scheduler.ended(request_id, Leg.PREFILL, self._loop.time()))

    def first_token(self, request_id: str) -> None:
        self._act(self.scheduler.first_token(request_id, self._loop.time()))

    def busy(self, worker: str) -> None:
        """The worker refused a leg."""
        self._act(self.scheduler.busy(worker, self._loop.time()))

    def leave(self, request_id: str, served: Served) -> None:
        """The request is over, or was given up while it waited."""
        self._futures.pop(request_id, None)
        self._act(self.scheduler.left(request_id, self._loop.time(), served))

    def workers_changed(self, endpoints: Iterable[Endpoint]) -> None:
        self._act(self.scheduler.workers_changed(endpoints, self._loop.time()))

    def reported(self) -> None:
        """Workers told of their load."""
        self._act(self.scheduler.reported(self._loop.time()))

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    async def _wait(self, info: RequestInfo) -> Choice:
        future = self._futures[info.request_id] = self._loop.create_future()
        self._arm()
        try:
            return await future
        except _RefusedError as error:
            raise refusal(error.refuse, info) from None

    def _act(self, decisions: Iterable[Decision]) -> None:
        for decision in decisions:
            future = self._futures.pop(decision.request_id, None)
            if future is None or future.done():
                # Its client left a moment ago; `leave` gives its place back.
                continue
            if isinstance(decision, Start):
                future.set_result(decision.choice)
            else:
                future.set_exception(_RefusedError(decision))
        if self._futures:
            self._arm()

    def _advance(self) -> None:
        self._act(self.scheduler.tick(self._loop.time()))

    def _arm(self) -> None:
        due = self.scheduler.due()
        if due is None or due >= self._wakes:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._wakes = due
        self._timer = self._loop.call_at(due, self._fire)

    def _fire(self) -> None:
        self._timer, self._wakes = None, inf
        self._advance()


class _RefusedError(Exception):
    def __init__(self, refuse: Refuse) -> None:
        super().__init__(refuse.reason)
        self.refuse = refuse


def refusal(refuse: Refuse, info: RequestInfo) -> ApiError:
    """What a client is told that was not served."""
    retry_after = None if refuse.retry_after is None else max(1, ceil(refuse.retry_after))
    match refuse.reason:
        case Reason.UNATTAINABLE:
            return unattainable(info.service_class, retry_after)
        case Reason.QUEUE_FULL:
            return queue_full(info.service_class, retry_after)
        case Reason.NO_CAPACITY:
            return no_capacity(info.model, retry_after)
        case Reason.DEADLINE:
            return deadline_exceeded(retry_after)
