"""Carries one request through its transfer: effects become HTTP legs, what comes of them becomes events."""

import asyncio
import logging
from dataclasses import replace

from tandem_router.errors import ApiError, deadline_exceeded, no_worker, upstream_failed, workers_busy
from tandem_router.legs import (
    Stream,
)
from tandem_router.legwork import Job, Legwork
from tandem_router.moves import (
    AnswerPrefill,
    AwaitDecode,
    BreakStream,
    Cancel,
    Choose,
    Chosen,
    ClientGone,
    Effect,
    Event,
    Failure,
    Finished,
    GiveUp,
    Kind,
    Leg,
    PassRefusal,
    Relay,
    Release,
    SendBoth,
    SendDecode,
    SendPrefill,
)
from tandem_router.queueing.decisions import Served
from tandem_router.record import Record
from tandem_router.reply import Reply
from tandem_router.room import ask_room
from tandem_router.runtime import Runtime
from tandem_router.sse import Usage
from tandem_router.transfer import Phase, Transfer, start, step
from tandem_router.types import Choice, NoChoice, Path

_log = logging.getLogger(__name__)


class Exchange:
    """One request and its legs. Whatever ends `run`, no handle and no load stays behind."""

    def __init__(self, runtime: Runtime, job: Job, record: Record, reply: Reply) -> None:
        self._runtime, self._job, self._record, self._reply = runtime, job, record, reply
        self._clock = runtime.clock
        self._entered = False
        self._legs = Legwork(runtime, job, record)
        self._rescue = self._legs.rescue
        self._withheld = b""

    async def run(self) -> None:
        """Answers the client. Raises ApiError when no answer could be had; cancelled when the client left."""
        state, effects = start(self._job.deadline, stream=self._job.parsed.info.stream)
        try:
            while effects:
                event: Event | None = None
                for effect in effects:
                    event = await self._carry_out(effect, state) or event
                if event is None:
                    break
                state, effects = step(state, event, self._clock())
        except asyncio.CancelledError:
            phase = Leg.PREFILL if state.phase is Phase.PREFILL or Leg.PREFILL in state.legs else Leg.DECODE
            self._runtime.metrics.disconnected(self._record.model, phase)
            raise
        finally:
            self._clean_up(state)

    def _clean_up(self, state: Transfer) -> None:
        for effect in step(state, ClientGone(), self._clock())[1]:
            if isinstance(effect, Release):
                self._legs.release(effect)
        self._legs.close()
        self._land(self._record.usage)
        if self._entered:
            self._runtime.gate.leave(self._id, _served(self._record.usage))

    async def _carry_out(self, effect: Effect, state: Transfer) -> Event | None:
        match effect:
            case Choose():
                return await self._choose(effect)
            case SendPrefill() | SendDecode() | SendBoth():
                return await self._legs.send(effect)
            case AwaitDecode():
                return await self._legs.first_of_both()
            case Cancel(leg):
                self._legs.cancel(leg)
            case Relay():
                return await self._relay()
            case Release():
                self._legs.release(effect)
            case AnswerPrefill():
                self._answer_prefill(state)
            case PassRefusal():
                self._pass_answer()
            case GiveUp(why):
                raise _error(why, self._job.parsed.info.model)
            case BreakStream(failure):
                self._reply.last_words(failure, self._withheld)
        return None

    @property
    def _id(self) -> str:
        return self._job.parsed.info.request_id

    async def _choose(self, effect: Choose) -> Chosen:
        runtime = self._runtime
        if effect.retry is not None:
            runtime.metrics.retried(self._record.model, effect.retry)
        request = self._rescue.asked.info
        self._land()
        choice = await self._turn(effect)
        if not isinstance(choice, Choice):
            return Chosen(choice)
        self._legs.choice = choice
        self._legs.flight = runtime.forecaster.begin(request, choice, runtime.views.of(request))
        runtime.views.sent(request, choice)
        if choice.prefill is None:
            return Chosen(choice, waited_for=runtime.gate.scheduler.waited_for(self._id))
        engine = runtime.engines[choice.prefill.engine]
        concurrent = engine.concurrent(runtime.peers.get(choice.prefill))
        return Chosen(choice, concurrent, runtime.gate.scheduler.waited_for(self._id))

    async def _turn(self, effect: Choose) -> Choice | NoChoice:
        """The workers for the next attempt, once they have room. Raises ApiError if refused at first."""
        gate, since = self._runtime.gate, self._clock()
        try:
            if self._entered:
                return await gate.again(self._rescue.asked.info, effect.constraint)
            self._entered = True
            return await gate.enter(self._rescue.asked.info, self._job.deadline, self._job.size)
        except ApiError as error:
            self._record.refusal = error.code
            raise
        finally:
            self._record.queued += self._clock() - since

    async def _relay(self) -> Event:
        if self._legs.stream is None:
            self._pass_answer()
            return Finished()
        failure = await self._reply.relay(self._legs.stream, self._job.deadline, self._runtime.health.stall)
        if failure is not None:
            return await self._lost(self._legs.stream, failure)
        if self._record.pace is not None and not self._rescue.resuming:
            self._runtime.health.paced(self._record.decode_name or "", self._record.pace)
        return Finished()

    async def _lost(self, stream: Stream, failure: Failure) -> Event:
        """A stream broke off: perhaps it was complete, perhaps another worker can go on with it."""
        stream.close()
        self._legs.stream, self._withheld = None, stream.reader.withheld
        ending = self._rescue.ending()
        if ending is not None:
            self._legs.failed(failure, streaming=True)
            self._reply.finish(ending)
            return Finished()
        why: str | None = "deadline"
        if self._clock() < self._job.deadline:
            why = await self._rescue.plan(self._room)
        if why is not None:
            self._runtime.metrics.not_resumed(self._record.model, why)
        return self._legs.failed(failure, streaming=True, resumable=why is None)

    async def _room(self) -> int | None:
        found = self._runtime.directory.candidates(self._record.model)
        others = [worker for worker in found.usable if worker.name != self._record.decode_name]
        return await ask_room(self._runtime.upstreams, others)

    def _answer_prefill(self, state: Transfer) -> None:
        if state.choice is not None and state.choice.prefill is not None:
            self._record.prefill_name = state.choice.prefill.name
            self._record.choice = replace(state.choice, path=Path.LOCAL, reason="finished_at_first_token")
        self._pass_answer()

    def _pass_answer(self) -> None:
        if self._legs.answer is None:
            raise ValueError("there is no answer to pass on")
        self._reply.whole(self._legs.answer)

    def _land(self, usage: Usage | None = None) -> None:
        """This attempt is over; with its usage it can be learned from, if one worker streamed all of it."""
        flight, self._legs.flight = self._legs.flight, None
        if flight is None:
            return
        if usage is None:
            flight.dropped(self._clock())
            return
        flight.counted(usage.prompt_tokens, usage.cached_tokens)
        end = self._record.last_token or self._clock()
        flight.ended(end, None if self._rescue.resuming else usage.output_tokens)


def _served(usage: Usage | None) -> Served:
    if usage is None:
        return Served()
    cached = usage.cached_tokens
    share = None if cached is None or not usage.prompt_tokens else cached / usage.prompt_tokens
    return Served(usage.output_tokens, share)


def _error(why: Failure | NoChoice, model: str) -> ApiError:
    if isinstance(why, NoChoice):
        return no_worker(model, why.reason)
    if why.kind is Kind.TIMEOUT:
        return deadline_exceeded()
    return workers_busy() if why.kind is Kind.BUSY else upstream_failed(why.detail)
