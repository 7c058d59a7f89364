"""Carries one request through its transfer: effects become HTTP legs, what comes of them becomes events."""

import asyncio
import json
import logging
import math
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tandem_router.engines.base import Engine, Pairing, Prepared
from tandem_router.errors import ApiError, deadline_exceeded, no_worker, upstream_failed, workers_busy
from tandem_router.headers import REQUEST_ID, attempt_id
from tandem_router.hedge import hedged, peers_of
from tandem_router.legs import (
    Answer,
    LegFailedError,
    LegRefusedError,
    LegRequest,
    Stream,
    ask,
    open_decode,
)
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
    Failed,
    Failure,
    Finished,
    FirstToken,
    GiveUp,
    Handle,
    Kind,
    Leg,
    PassRefusal,
    Prefilled,
    Refused,
    Relay,
    Release,
    SendBoth,
    SendDecode,
    SendPrefill,
)
from tandem_router.openai import ParsedRequest
from tandem_router.peers import UnknownPeerError
from tandem_router.predict.flight import Flight
from tandem_router.queueing.decisions import Served
from tandem_router.record import Record
from tandem_router.reply import Reply
from tandem_router.rescue import Rescue
from tandem_router.room import ask_room
from tandem_router.runtime import Runtime
from tandem_router.sse import EventReader, Usage, find_usage
from tandem_router.transfer import Phase, Transfer, start, step
from tandem_router.types import IDLE, Choice, Endpoint, NoChoice, Path

DECODE_MARGIN = 4.0
"""Times the predicted length of a decode, before an answer is held to come of KV that was pulled late."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """One request, checked: what to send, under which ids, until when (clock time). `size` in bytes."""

    parsed: ParsedRequest
    request_id: str
    engine_id: str
    headers: Mapping[str, str]
    deadline: float
    size: int


class Exchange:
    """One request and its legs. Whatever ends `run`, no handle and no load stays behind."""

    def __init__(self, runtime: Runtime, job: Job, record: Record, reply: Reply) -> None:
        self._runtime, self._job, self._record, self._reply = runtime, job, record, reply
        self._clock = runtime.clock
        self._entered = False
        self._stream: Stream | None = None
        self._answer: Answer | None = None
        self._pairing: Pairing | None = None
        self._legs: dict[Leg, asyncio.Task[Event]] = {}
        self._committed = False
        self._choice: Choice | None = None
        self._flight: Flight | None = None
        self._rescue = Rescue(job.parsed, enabled=runtime.config.settings.recovery.migration)
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
                self._release(effect)
        for leg in list(self._legs):
            self._cancel(leg)
        self._land(self._record.usage)
        if self._entered:
            self._runtime.gate.leave(self._id, _served(self._record.usage))
        if self._stream is not None:
            self._stream.close()

    async def _carry_out(self, effect: Effect, state: Transfer) -> Event | None:
        match effect:
            case Choose():
                return await self._choose(effect)
            case SendPrefill():
                return await self._leg(Leg.PREFILL, self._prefill(effect))
            case SendDecode():
                return await self._leg(Leg.DECODE, self._decode(effect))
            case SendBoth():
                return await self._leg(Leg.PREFILL, self._both(effect))
            case AwaitDecode():
                return await self._first_of_both()
            case Cancel(leg):
                self._cancel(leg)
            case Relay():
                return await self._relay()
            case Release():
                self._release(effect)
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
        self._choice = choice
        self._flight = runtime.forecaster.begin(request, choice, runtime.views.of(request))
        runtime.views.sent(request, choice)
        if choice.prefill is None:
            return Chosen(choice)
        engine = runtime.engines[choice.prefill.engine]
        return Chosen(choice, engine.concurrent(runtime.peers.get(choice.prefill)))

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

    async def _leg(self, leg: Leg, work: Coroutine[None, None, Event]) -> Event:
        try:
            return await work
        except LegFailedError as error:
            return self._failed(error.failure)
        except LegRefusedError as error:
            self._answer = error.answer
            return Refused(leg)

    async def _prefill(self, effect: SendPrefill) -> Event:
        prefill = _prefill_of(effect.choice)
        self._runtime.health.started(prefill.name)
        pairing = await self._pair(prefill, effect.attempt, probe=False)
        hedger, tokens, sent = self._runtime.hedger, self._rescue.asked.info.prompt_tokens, self._clock()
        delay = None if hedger is None else hedger.delay(tokens)
        if delay is None:
            event = await self._ask_prefill(pairing, effect.deadline)
        else:
            event = await self._hedged(pairing, delay, effect.deadline)
        if hedger is not None:
            hedger.took(tokens, self._clock() - sent)
        return event

    async def _hedged(self, first: Pairing, delay: float, deadline: float) -> Event:
        """Asks a second prefill worker after `delay` seconds without an answer of the first."""
        pairing, event = await hedged(
            lambda pairing: self._ask_prefill(pairing, deadline),
            first,
            lambda: self._second(first),
            delay,
            lambda pairing, event: self._drop(pairing.prefill, event),
        )
        self._pairing = pairing
        if pairing is not first and isinstance(event, Prefilled):
            return replace(event, prefill=pairing.prefill)
        return event

    def _second(self, first: Pairing) -> Pairing | None:
        """The same hand-over from the least loaded of the other workers that can make it."""
        runtime = self._runtime
        left = peers_of(first.prefill, runtime.directory.endpoints, runtime.health.ejected())
        if not left:
            return None
        second = min(left, key=lambda worker: runtime.loads.get(worker.name, IDLE).requests)
        runtime.health.started(second.name)
        runtime.metrics.hedged(self._record.model)
        return Pairing(f"{first.request_id}-h", runtime.rng.getrandbits(63), second)

    def _drop(self, prefill: Endpoint, event: Prefilled) -> None:
        if event.params is not None:
            self._release(Release(Handle(prefill, event.params, 0.0), "hedged"))

    async def _both(self, effect: SendBoth) -> Event:
        """Sends both legs, each in a task of its own; the event of the one that comes to something first."""
        choice, prefill = effect.choice, _prefill_of(effect.choice)
        self._runtime.health.started(prefill.name)
        self._runtime.health.started(choice.decode.name)
        pairing = await self._pair(prefill, effect.attempt, probe=True)
        self._note(choice, prefill)
        engine = self._runtime.engines[choice.decode.engine]
        asked, reader = self._decode_leg(choice.decode)
        prepared = engine.prepare_decode(asked.body, pairing, None)
        leg = LegRequest(
            Leg.DECODE,
            choice.decode,
            asked.api,
            prepared.body,
            self._headers(effect.attempt, prepared),
            effect.deadline,
        )
        legs: dict[Leg, Coroutine[None, None, Event]] = {
            Leg.PREFILL: self._ask_prefill(pairing, effect.prefill_deadline),
            Leg.DECODE: self._open_decode(leg, reader),
        }
        loop = asyncio.get_running_loop()
        self._legs = {leg: loop.create_task(self._leg(leg, work)) for leg, work in legs.items()}
        return await self._first_of_both()

    async def _first_of_both(self) -> Event:
        """What one of the legs that are under way comes to.

        Of two at the same time a first token counts for more than anything, then what the prefill leg says.
        """
        await asyncio.wait(self._legs.values(), return_when=asyncio.FIRST_COMPLETED)
        events = {leg: task.result() for leg, task in self._legs.items() if task.done()}
        first = events.get(Leg.DECODE)
        leg = Leg.DECODE if isinstance(first, FirstToken) or Leg.PREFILL not in events else Leg.PREFILL
        del self._legs[leg]
        return events[leg]

    def _cancel(self, leg: Leg) -> None:
        """Ends a leg that is under way: its connection closes, and so its worker hears of it."""
        task = self._legs.pop(leg, None)
        if task is not None:
            task.cancel()

    async def _pair(self, prefill: Endpoint, attempt: int, *, probe: bool) -> Pairing:
        """Names a hand-over from this worker, and finds out what its partner has to know."""
        peers, engine = self._runtime.peers, self._runtime.engines[prefill.engine]
        try:
            found = await peers.find(prefill, engine) if probe else None
        except UnknownPeerError as error:
            raise LegFailedError(
                Failure(Leg.PREFILL, Kind.CONNECT, "the prefill worker cannot be asked for its engine")
            ) from error
        request_id = attempt_id(self._job.engine_id, attempt)
        self._pairing = Pairing(request_id, self._runtime.rng.getrandbits(63), prefill, found)
        return self._pairing

    async def _ask_prefill(self, pairing: Pairing, deadline: float) -> Event:
        parsed, prefill = self._rescue.asked, pairing.prefill
        engine = self._runtime.engines[prefill.engine]
        prepared = engine.prepare_prefill(parsed.body, pairing)
        headers = {REQUEST_ID: pairing.request_id, **self._job.headers, **prepared.headers}
        sent = self._clock()
        answer = await ask(
            self._runtime.upstreams,
            LegRequest(Leg.PREFILL, prefill, parsed.api, prepared.body, headers, deadline),
        )
        self._runtime.health.succeeded(prefill.name)
        self._runtime.gate.prefilled(self._id)
        if not self._committed:
            self._record.prefilled = self._clock()
            self._record.prefill_seconds = self._record.prefilled - sent
            if self._flight is not None:
                self._flight.prefilled(self._record.prefilled)
            self._answer = answer
        if (usage := find_usage(answer.body)) is not None:
            self._record.cached_tokens = usage.cached_tokens or 0
        body = _json(answer)
        self._runtime.peers.learn(prefill, engine, body)
        return self._read_prefill(engine, body)

    async def _decode(self, effect: SendDecode) -> Event:
        choice, handle = effect.choice, effect.handle
        self._choice = choice
        self._runtime.health.started(choice.decode.name)
        self._note(choice, handle.prefill if handle else None)
        engine = self._runtime.engines[choice.decode.engine]
        asked, reader = self._decode_leg(choice.decode)
        if handle is None or self._pairing is None:
            prepared = engine.prepare_whole(asked.body)
        else:
            prepared = engine.prepare_decode(asked.body, self._pairing, handle.params)
        headers = self._headers(effect.attempt, prepared)
        leg = LegRequest(Leg.DECODE, choice.decode, asked.api, prepared.body, headers, effect.deadline)
        return await self._open_decode(leg, reader)

    def _decode_leg(self, decode: Endpoint) -> tuple[ParsedRequest, EventReader]:
        """What the worker is asked for, and how its stream is read. Raises LegFailedError."""
        if not self._rescue.takes(decode.engine):
            raise LegFailedError(Failure(Leg.DECODE, Kind.STATUS, "a worker of another engine cannot go on"))
        return self._rescue.decode_leg(decode.engine)

    async def _open_decode(self, leg: LegRequest, reader: EventReader) -> Event:
        reader.cached_tokens = self._record.handed_cached_tokens
        opened = await open_decode(self._runtime.upstreams, leg, reader)
        name = leg.endpoint.name
        self._runtime.health.succeeded(name)
        self._committed = True
        if isinstance(opened, Stream):
            self._stream = opened
            self._runtime.gate.first_token(self._id)
            if self._flight is not None:
                self._flight.first_token(self._clock())
        elif self._rescue.resuming:
            raise LegFailedError(
                Failure(Leg.DECODE, Kind.STREAM, "the decode worker did not go on streaming")
            )
        else:
            self._answer = opened
        if self._rescue.resuming:
            self._runtime.metrics.resumed(self._record.model)
            _log.info("request %s: its stream goes on at %s", self._job.request_id, name)
        return FirstToken()

    async def _relay(self) -> Event:
        if self._stream is None:
            self._pass_answer()
            return Finished()
        failure = await self._reply.relay(self._stream, self._job.deadline, self._runtime.health.stall)
        if failure is not None:
            return await self._lost(self._stream, failure)
        if self._record.pace is not None and not self._rescue.resuming:
            self._runtime.health.paced(self._record.decode_name or "", self._record.pace)
        return Finished()

    async def _lost(self, stream: Stream, failure: Failure) -> Event:
        """A stream broke off: perhaps it was complete, perhaps another worker can go on with it."""
        stream.close()
        self._stream, self._withheld = None, stream.reader.withheld
        ending = self._rescue.ending()
        if ending is not None:
            self._failed(failure, streaming=True)
            self._reply.finish(ending)
            return Finished()
        why: str | None = "deadline"
        if self._clock() < self._job.deadline:
            why = await self._rescue.plan(self._room)
        if why is not None:
            self._runtime.metrics.not_resumed(self._record.model, why)
        return self._failed(failure, streaming=True, resumable=why is None)

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
        if self._answer is None:
            raise ValueError("there is no answer to pass on")
        self._reply.whole(self._answer)

    def _note(self, choice: Choice, prefill: Endpoint | None) -> None:
        """Who serves this attempt, for the record; of a stream that goes on, only who does now."""
        self._record.decode_name = choice.decode.name
        if not self._committed:
            self._record.choice = choice
            self._record.prefill_name = None if prefill is None else prefill.name

    def _read_prefill(self, engine: Engine, body: Mapping[str, Any]) -> Prefilled:
        read = engine.read_prefill(self._rescue.asked.body, body)
        lease = engine.lease(read.params, time.time()) if read.params is not None else 0.0
        return Prefilled(read.params, read.finished, lease, self._decode_seconds(engine))

    def _decode_seconds(self, engine: Engine) -> float:
        """What the decode leg can take at most after it has the KV, as far as that is known."""
        prediction = None if self._flight is None else self._flight.prediction
        limit = self._rescue.asked.info.max_tokens
        if engine.verifies or prediction is None or limit is None:
            return math.inf
        return DECODE_MARGIN * limit * prediction.tpot

    def _headers(self, attempt: int, prepared: Prepared) -> dict[str, str]:
        request_id = attempt_id(self._job.engine_id, attempt)
        return {REQUEST_ID: request_id, **self._job.headers, **prepared.headers}

    def _failed(self, failure: Failure, *, streaming: bool = False, resumable: bool = False) -> Failed:
        _log.warning("request %s: %s (%s)", self._job.request_id, failure.detail, failure.reason)
        if self._pairing is not None and failure.kind is not Kind.BUSY:
            self._runtime.peers.forget(self._pairing.prefill)
        if self._choice is not None:
            if failure.kind is Kind.BUSY:
                prefill = self._choice.prefill if failure.leg is Leg.PREFILL else None
                self._runtime.gate.busy((prefill or self._choice.decode).name)
            self._runtime.health.failed(failure, self._choice, pulls=not streaming)
        return Failed(failure, resumable)

    def _land(self, usage: Usage | None = None) -> None:
        """This attempt is over; with its usage it can be learned from, if one worker streamed all of it."""
        flight, self._flight = self._flight, None
        if flight is None:
            return
        if usage is None:
            flight.dropped(self._clock())
            return
        flight.counted(usage.prompt_tokens, usage.cached_tokens)
        end = self._record.last_token or self._clock()
        flight.ended(end, None if self._rescue.resuming else usage.output_tokens)

    def _release(self, effect: Release) -> None:
        call = self._runtime.engines[effect.handle.prefill.engine].release(effect.handle.params)
        if call is not None:
            metrics, model, reason = self._runtime.metrics, self._record.model, effect.reason
            self._runtime.releaser.submit(call, reason, lambda: metrics.released(model, reason))


def _served(usage: Usage | None) -> Served:
    if usage is None:
        return Served()
    cached = usage.cached_tokens
    share = None if cached is None or not usage.prompt_tokens else cached / usage.prompt_tokens
    return Served(usage.output_tokens, share)


def _prefill_of(choice: Choice) -> Endpoint:
    if choice.prefill is None:
        raise ValueError("a prefill leg without a prefill worker")
    return choice.prefill


def _json(answer: Answer) -> dict[str, Any]:
    """A prefill leg's answer. Raises LegFailedError."""
    try:
        body = json.loads(answer.body)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise LegFailedError(Failure(Leg.PREFILL, Kind.STREAM, "the prefill worker's answer cannot be read"))
    return body


def _error(why: Failure | NoChoice, model: str) -> ApiError:
    if isinstance(why, NoChoice):
        return no_worker(model, why.reason)
    if why.kind is Kind.TIMEOUT:
        return deadline_exceeded()
    return workers_busy() if why.kind is Kind.BUSY else upstream_failed(why.detail)
