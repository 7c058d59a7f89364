"""The queue for asyncio: a future for each request that waits, one timer, and none while nobody waits."""

import asyncio
from collections.abc import Iterable
from math import ceil, inf

from tandem_router.errors import ApiError, deadline_exceeded, no_capacity, queue_full, unattainable
from tandem_router.moves import Leg
from tandem_router.queueing.decisions import Decision, Reason, Refuse, Served, Start, Wait
from tandem_router.queueing.scheduler import Scheduler
from tandem_router.types import Choice, Constraint, Endpoint, NoChoice, RequestInfo

LOOK_SECONDS = 0.05


class Gate:
    """Carries a Scheduler's decisions to the requests that wait for them."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self._loop = asyncio.get_running_loop()
        self._turns: dict[str, tuple[RequestInfo, asyncio.Future[Choice]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._wakes = inf
        self._looked = -inf

    async def enter(self, info: RequestInfo, expires: float, size: int) -> Choice:
        """The workers for a new request, now or when its turn comes. Raises ApiError if it is refused.

        Whatever comes of it, `leave` ends it.
        """
        answer = self.scheduler.submit(info, self._loop.time(), expires=expires, size=size)
        if isinstance(answer, Start):
            return answer.choice
        if isinstance(answer, Refuse):
            raise refusal(answer, info)
        return await self._turn_of(info)

    async def again(self, info: RequestInfo, constraint: Constraint) -> Choice | NoChoice:
        """Other workers after a failure. A request that waited for them in vain has none."""
        answer = self.scheduler.again(info.request_id, constraint, self._loop.time(), info=info)
        if not isinstance(answer, Wait):
            self._advance()
            return answer.choice if isinstance(answer, Start) else answer
        turn = self._turn_of(info)
        # What it held until now is free for others.
        self._advance()
        try:
            return await turn
        except ApiError as error:
            return NoChoice(error.code)

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
        self._turns.pop(request_id, None)
        self._act(self.scheduler.left(request_id, self._loop.time(), served))

    def workers_changed(self, endpoints: Iterable[Endpoint]) -> None:
        self._act(self.scheduler.workers_changed(endpoints, self._loop.time()))

    def reported(self) -> None:
        """A worker told of its load. While somebody waits this is looked at, at times."""
        now = self._loop.time()
        if self._turns and now >= self._looked + LOOK_SECONDS:
            self._looked = now
            self._act(self.scheduler.reported(now))

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _turn_of(self, info: RequestInfo) -> asyncio.Future[Choice]:
        """Its workers when its turn comes, or an ApiError."""
        future: asyncio.Future[Choice] = self._loop.create_future()
        self._turns[info.request_id] = (info, future)
        self._arm()
        return future

    def _act(self, decisions: Iterable[Decision]) -> None:
        for decision in decisions:
            info, future = self._turns.pop(decision.request_id)
            if future.done():
                # Its client left a moment ago; `leave` gives its place back.
                continue
            if isinstance(decision, Start):
                future.set_result(decision.choice)
            else:
                future.set_exception(refusal(decision, info))
        if self._turns:
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
