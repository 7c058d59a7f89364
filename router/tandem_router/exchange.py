"""Carries one request through its transfer: effects become HTTP legs, what comes of them becomes events."""

import asyncio
import json
import logging
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tandem_router.engines.base import Engine, Pairing, Prepared
from tandem_router.errors import ApiError, deadline_exceeded, no_worker, upstream_failed, workers_busy
from tandem_router.headers import REQUEST_ID, attempt_id
from tandem_router.legs import Answer, LegFailedError, LegRefusedError, LegRequest, Stream, ask, open_decode
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
from tandem_router.pipeline import decide
from tandem_router.record import Record
from tandem_router.reply import Reply
from tandem_router.runtime import Runtime
from tandem_router.transfer import Phase, Transfer, start, step
from tandem_router.types import Choice, Endpoint, NoChoice, Path

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """One request, checked: what to send, under which ids, until when (clock time)."""

    parsed: ParsedRequest
    request_id: str
    engine_id: str
    headers: Mapping[str, str]
    deadline: float


class Exchange:
    """One request and its legs. Whatever ends `run`, no handle and no load stays behind."""

    def __init__(self, runtime: Runtime, job: Job, record: Record, reply: Reply) -> None:
        self._runtime, self._job, self._record, self._reply = runtime, job, record, reply
        self._clock = runtime.clock
        self._held: tuple[str, ...] = ()
        self._stream: Stream | None = None
        self._answer: Answer | None = None
        self._pairing: Pairing | None = None
        self._legs: dict[Leg, asyncio.Task[Event]] = {}
        self._committed = False

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
        self._hold()
        if self._stream is not None:
            self._stream.close()

    async def _carry_out(self, effect: Effect, state: Transfer) -> Event | None:
        match effect:
            case Choose():
                return self._choose(effect)
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
                self._reply.last_words(failure)
        return None

    def _choose(self, effect: Choose) -> Chosen:
        runtime = self._runtime
        self._hold()
        if effect.retry is not None:
            runtime.metrics.retried(self._record.model, effect.retry)
        request = self._job.parsed.info
        choice = decide(
            request,
            # Looked up for each attempt: workers may have come and gone since.
            runtime.directory.candidates(request.model),
            runtime.views.of(request),
            runtime.rng,
            policy=runtime.policy,
            constraint=effect.constraint,
        )
        if not isinstance(choice, Choice):
            return Chosen(choice)
        runtime.views.sent(request, choice)
        if choice.prefill is None:
            return Chosen(choice)
        engine = runtime.engines[choice.prefill.engine]
        return Chosen(choice, engine.concurrent(runtime.peers.get(choice.prefill)))

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
        self._hold(prefill.name, effect.choice.decode.name)
        pairing = await self._pair(prefill, effect.attempt, probe=False)
        return await self._ask_prefill(pairing, effect.deadline)

    async def _both(self, effect: SendBoth) -> Event:
        """Sends both legs, each in a task of its own; the event of the one that comes to something first."""
        choice, prefill = effect.choice, _prefill_of(effect.choice)
        self._hold(prefill.name, choice.decode.name)
        pairing = await self._pair(prefill, effect.attempt, probe=True)
        self._note(choice, prefill)
        engine = self._runtime.engines[choice.decode.engine]
        prepared = engine.prepare_decode(self._job.parsed.body, pairing, None)
        legs: dict[Leg, Coroutine[None, None, Event]] = {
            Leg.PREFILL: self._ask_prefill(pairing, effect.prefill_deadline),
            Leg.DECODE: self._open_decode(choice.decode, prepared, effect.attempt, effect.deadline),
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
        parsed, prefill = self._job.parsed, pairing.prefill
        engine = self._runtime.engines[prefill.engine]
        prepared = engine.prepare_prefill(parsed.body, pairing)
        headers = {REQUEST_ID: pairing.request_id, **self._job.headers, **prepared.headers}
        sent = self._clock()
        answer = await ask(
            self._runtime.upstreams,
            LegRequest(Leg.PREFILL, prefill, parsed.api, prepared.body, headers, deadline),
        )
        self._record.prefilled = self._clock()
        self._record.prefill_seconds = self._record.prefilled - sent
        if not self._committed:
            self._answer = answer
        body = _json(answer)
        self._runtime.peers.learn(prefill, engine, body)
        return self._read_prefill(engine, body)

    async def _decode(self, effect: SendDecode) -> Event:
        choice, handle, body = effect.choice, effect.handle, self._job.parsed.body
        self._hold(choice.decode.name)
        self._note(choice, handle.prefill if handle else None)
        engine = self._runtime.engines[choice.decode.engine]
        if handle is None or self._pairing is None:
            prepared = engine.prepare_whole(body)
        else:
            prepared = engine.prepare_decode(body, self._pairing, handle.params)
        return await self._open_decode(choice.decode, prepared, effect.attempt, effect.deadline)

    async def _open_decode(
        self, decode: Endpoint, prepared: Prepared, attempt: int, deadline: float
    ) -> Event:
        parsed = self._job.parsed
        request_id = attempt_id(self._job.engine_id, attempt)
        headers = {REQUEST_ID: request_id, **self._job.headers, **prepared.headers}
        opened = await open_decode(
            self._runtime.upstreams,
            LegRequest(Leg.DECODE, decode, parsed.api, prepared.body, headers, deadline),
            drop_usage=not parsed.wants_usage,
        )
        self._committed = True
        self._hold(decode.name)
        if isinstance(opened, Stream):
            self._stream = opened
        else:
            self._answer = opened
        return FirstToken()

    async def _relay(self) -> Event:
        if self._stream is None:
            self._pass_answer()
            return Finished()
        failure = await self._reply.relay(self._stream, self._job.deadline)
        return Finished() if failure is None else self._failed(failure)

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
        """Who serves this attempt, for the record."""
        self._record.choice = choice
        self._record.prefill_name = None if prefill is None else prefill.name
        self._record.decode_name = choice.decode.name

    def _read_prefill(self, engine: Engine, body: Mapping[str, Any]) -> Prefilled:
        read = engine.read_prefill(self._job.parsed.body, body)
        lease = engine.lease(read.params, time.time()) if read.params is not None else 0.0
        return Prefilled(read.params, read.finished, lease)

    def _failed(self, failure: Failure) -> Failed:
        _log.warning("request %s: %s (%s)", self._job.request_id, failure.detail, failure.reason)
        if self._pairing is not None and failure.kind is not Kind.BUSY:
            self._runtime.peers.forget(self._pairing.prefill)
        return Failed(failure)

    def _hold(self, *names: str) -> None:
        """Counts this request on these workers and no others."""
        tokens = self._job.parsed.info.prompt_tokens
        for name in self._held:
            self._runtime.loads.end(name, tokens)
        for name in names:
            self._runtime.loads.begin(name, tokens)
        self._held = names

    def _release(self, effect: Release) -> None:
        call = self._runtime.engines[effect.handle.prefill.engine].release(effect.handle.params)
        if call is not None:
            metrics, model, reason = self._runtime.metrics, self._record.model, effect.reason
            self._runtime.releaser.submit(call, reason, lambda: metrics.released(model, reason))


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
