"""The legs of one request: what is sent to workers, and the events that come of it."""

import asyncio
import logging
import math
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from tandem_router.engines.base import Engine, Pairing, Prepared
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
    Event,
    Failed,
    Failure,
    FirstToken,
    Handle,
    Kind,
    Leg,
    Prefilled,
    Refused,
    Release,
    SendBoth,
    SendDecode,
    SendPrefill,
)
from tandem_router.openai import ParsedRequest
from tandem_router.peers import UnknownPeerError
from tandem_router.predict.flight import Flight
from tandem_router.record import Record
from tandem_router.rescue import Rescue
from tandem_router.runtime import Runtime
from tandem_router.sse import EventReader, find_usage
from tandem_router.types import IDLE, Choice, Endpoint

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


class Legwork:
    """Sends legs, and keeps what the next step needs of them: an answer, or a stream that has begun.

    `choice` and `flight` are those of the attempt that is made; `rescue` says what workers are asked for.
    """

    def __init__(self, runtime: Runtime, job: Job, record: Record) -> None:
        self._runtime, self._job, self._record = runtime, job, record
        self._clock = runtime.clock
        self.rescue = Rescue(job.parsed, enabled=runtime.config.settings.recovery.migration)
        self.choice: Choice | None = None
        self.flight: Flight | None = None
        self.stream: Stream | None = None
        self.answer: Answer | None = None
        self._pairing: Pairing | None = None
        self._under_way: dict[Leg, asyncio.Task[Event]] = {}
        self._committed = False

    async def send(self, effect: SendPrefill | SendDecode | SendBoth) -> Event:
        """What comes of the leg, or of the first of two."""
        match effect:
            case SendPrefill():
                return await self._leg(Leg.PREFILL, self._prefill(effect))
            case SendDecode():
                return await self._leg(Leg.DECODE, self._decode(effect))
            case SendBoth():
                return await self._leg(Leg.PREFILL, self._both(effect))

    def close(self) -> None:
        """Ends all that is under way."""
        for leg in list(self._under_way):
            self.cancel(leg)
        if self.stream is not None:
            self.stream.close()

    async def _leg(self, leg: Leg, work: Coroutine[None, None, Event]) -> Event:
        try:
            return await work
        except LegFailedError as error:
            return self.failed(error.failure)
        except LegRefusedError as error:
            self.answer = error.answer
            return Refused(leg)

    async def _prefill(self, effect: SendPrefill) -> Event:
        prefill = _prefill_of(effect.choice)
        self._runtime.health.started(prefill.name)
        pairing = await self._pair(prefill, effect.attempt, probe=False)
        hedger, tokens, sent = self._runtime.hedger, self.rescue.asked.info.prompt_tokens, self._clock()
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
            self.release(Release(Handle(prefill, event.params, 0.0), "hedged"))

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
        self._under_way = {leg: loop.create_task(self._leg(leg, work)) for leg, work in legs.items()}
        return await self.first_of_both()

    async def first_of_both(self) -> Event:
        """What one of the legs that are under way comes to.

        Of two at the same time a first token counts for more than anything, then what the prefill leg says.
        """
        await asyncio.wait(self._under_way.values(), return_when=asyncio.FIRST_COMPLETED)
        events = {leg: task.result() for leg, task in self._under_way.items() if task.done()}
        first = events.get(Leg.DECODE)
        leg = Leg.DECODE if isinstance(first, FirstToken) or Leg.PREFILL not in events else Leg.PREFILL
        del self._under_way[leg]
        return events[leg]

    def cancel(self, leg: Leg) -> None:
        """Ends a leg that is under way: its connection closes, and so its worker hears of it."""
        task = self._under_way.pop(leg, None)
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
        parsed, prefill = self.rescue.asked, pairing.prefill
        engine = self._runtime.engines[prefill.engine]
        prepared = engine.prepare_prefill(parsed.body, pairing)
        headers = {REQUEST_ID: pairing.request_id, **self._job.headers, **prepared.headers}
        sent = self._clock()
        answer = await ask(
            self._runtime.upstreams,
            LegRequest(Leg.PREFILL, prefill, parsed.api, prepared.body, headers, deadline),
        )
        self._runtime.health.succeeded(prefill.name)
        self._runtime.gate.prefilled(self._job.parsed.info.request_id)
        if not self._committed:
            self._record.prefilled = self._clock()
            self._record.prefill_seconds = self._record.prefilled - sent
            if self.flight is not None:
                self.flight.prefilled(self._record.prefilled)
            self.answer = answer
        if (usage := find_usage(answer.body)) is not None:
            self._record.cached_tokens = usage.cached_tokens or 0
        body = _json(answer)
        self._runtime.peers.learn(prefill, engine, body)
        return self._read_prefill(engine, body)

    async def _decode(self, effect: SendDecode) -> Event:
        choice, handle = effect.choice, effect.handle
        self.choice = choice
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
        if not self.rescue.takes(decode.engine):
            raise LegFailedError(Failure(Leg.DECODE, Kind.STATUS, "a worker of another engine cannot go on"))
        return self.rescue.decode_leg(decode.engine)

    async def _open_decode(self, leg: LegRequest, reader: EventReader) -> Event:
        reader.cached_tokens = self._record.handed_cached_tokens
        opened = await open_decode(self._runtime.upstreams, leg, reader)
        name = leg.endpoint.name
        self._runtime.health.succeeded(name)
        self._committed = True
        if isinstance(opened, Stream):
            self.stream = opened
            self._runtime.gate.first_token(self._job.parsed.info.request_id)
            if self.flight is not None:
                self.flight.first_token(self._clock())
        elif self.rescue.resuming:
            raise LegFailedError(
                Failure(Leg.DECODE, Kind.STREAM, "the decode worker did not go on streaming")
            )
        else:
            self.answer = opened
        if self.rescue.resuming:
            self._runtime.metrics.resumed(self._record.model)
            _log.info("request %s: its stream goes on at %s", self._job.request_id, name)
        return FirstToken()

    def _note(self, choice: Choice, prefill: Endpoint | None) -> None:
        """Who serves this attempt, for the record; of a stream that goes on, only who does now."""
        self._record.decode_name = choice.decode.name
        if not self._committed:
            self._record.choice = choice
            self._record.prefill_name = None if prefill is None else prefill.name

    def _read_prefill(self, engine: Engine, body: Mapping[str, Any]) -> Prefilled:
        read = engine.read_prefill(self.rescue.asked.body, body)
        lease = engine.lease(read.params, time.time()) if read.params is not None else 0.0
        return Prefilled(read.params, read.finished, lease, self._decode_seconds(engine))

    def _decode_seconds(self, engine: Engine) -> float:
        """What the decode leg can take at most after it has the KV, as far as that is known."""
        prediction = None if self.flight is None else self.flight.prediction
        limit = self.rescue.asked.info.max_tokens
        if engine.verifies or prediction is None or limit is None:
            return math.inf
        return DECODE_MARGIN * limit * prediction.tpot

    def _headers(self, attempt: int, prepared: Prepared) -> dict[str, str]:
        request_id = attempt_id(self._job.engine_id, attempt)
        return {REQUEST_ID: request_id, **self._job.headers, **prepared.headers}

    def failed(self, failure: Failure, *, streaming: bool = False, resumable: bool = False) -> Failed:
        _log.warning("request %s: %s (%s)", self._job.request_id, failure.detail, failure.reason)
        if self._pairing is not None and failure.kind is not Kind.BUSY:
            self._runtime.peers.forget(self._pairing.prefill)
        if self.choice is not None:
            if failure.kind is Kind.BUSY:
                prefill = self.choice.prefill if failure.leg is Leg.PREFILL else None
                self._runtime.gate.busy((prefill or self.choice.decode).name)
            self._runtime.health.failed(failure, self.choice, pulls=not streaming)
        return Failed(failure, resumable)

    def release(self, effect: Release) -> None:
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
        body = msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise LegFailedError(Failure(Leg.PREFILL, Kind.STREAM, "the prefill worker's answer cannot be read"))
    return body
