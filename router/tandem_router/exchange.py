"""Carries one request through its transfer: effects become HTTP legs, what comes of them becomes events."""

import asyncio
import json
import logging
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, replace

from tandem_router.engines import ENGINES
from tandem_router.engines.base import Engine, Pairing
from tandem_router.errors import ApiError, deadline_exceeded, no_worker, upstream_failed, workers_busy
from tandem_router.headers import REQUEST_ID, attempt_id
from tandem_router.legs import Answer, LegFailedError, LegRefusedError, LegRequest, Stream, ask, open_decode
from tandem_router.moves import (
    AnswerPrefill,
    BreakStream,
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
    SendDecode,
    SendPrefill,
)
from tandem_router.openai import ParsedRequest
from tandem_router.pipeline import decide
from tandem_router.record import Record
from tandem_router.reply import Reply
from tandem_router.runtime import Runtime
from tandem_router.transfer import Phase, Transfer, start, step
from tandem_router.types import Choice, NoChoice, Path

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
            phase = Leg.PREFILL if state.phase is Phase.PREFILL else Leg.DECODE
            self._runtime.metrics.disconnected(self._record.model, phase)
            raise
        finally:
            self._clean_up(state)

    def _clean_up(self, state: Transfer) -> None:
        for effect in step(state, ClientGone(), self._clock())[1]:
            if isinstance(effect, Release):
                self._release(effect)
        self._hold()
        if self._stream is not None:
            self._stream.close()

    async def _carry_out(self, effect: Effect, state: Transfer) -> Event | None:
        match effect:
            case Choose():
                return self._choose(effect)
            case SendPrefill():
                return await self._leg(self._prefill(effect))
            case SendDecode():
                return await self._leg(self._decode(effect))
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
        if isinstance(choice, Choice):
            runtime.views.sent(request, choice)
        return Chosen(choice)

    async def _leg(self, leg: Coroutine[None, None, Event]) -> Event:
        try:
            return await leg
        except LegFailedError as error:
            return self._failed(error.failure)
        except LegRefusedError as error:
            self._answer = error.answer
            return Refused()

    async def _prefill(self, effect: SendPrefill) -> Event:
        choice, parsed = effect.choice, self._job.parsed
        if choice.prefill is None:
            raise ValueError("a prefill leg without a prefill worker")
        self._hold(choice.prefill.name, choice.decode.name)
        engine = ENGINES[choice.prefill.engine]
        headers = self._headers(effect.attempt)
        self._pairing = Pairing(headers[REQUEST_ID], self._runtime.rng.getrandbits(63), choice.prefill)
        body = engine.prepare_prefill(parsed.body, self._pairing).body
        sent = self._clock()
        self._answer = await ask(
            self._runtime.upstreams,
            LegRequest(Leg.PREFILL, choice.prefill, parsed.api, body, headers, effect.deadline),
        )
        self._record.prefilled = self._clock()
        self._record.prefill_seconds = self._record.prefilled - sent
        return _read_prefill(engine, parsed, self._answer)

    async def _decode(self, effect: SendDecode) -> Event:
        choice, handle, parsed = effect.choice, effect.handle, self._job.parsed
        self._hold(choice.decode.name)
        self._record.choice = choice
        self._record.prefill_name = handle.prefill.name if handle else None
        self._record.decode_name = choice.decode.name
        engine = ENGINES[choice.decode.engine]
        if handle is None or self._pairing is None:
            body = engine.prepare_whole(parsed.body).body
        else:
            body = engine.prepare_decode(parsed.body, self._pairing, handle.params).body
        headers = self._headers(effect.attempt)
        opened = await open_decode(
            self._runtime.upstreams,
            LegRequest(Leg.DECODE, choice.decode, parsed.api, body, headers, effect.deadline),
            drop_usage=not parsed.wants_usage,
        )
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

    def _headers(self, attempt: int) -> dict[str, str]:
        return {REQUEST_ID: attempt_id(self._job.engine_id, attempt), **self._job.headers}

    def _failed(self, failure: Failure) -> Failed:
        _log.warning("request %s: %s (%s)", self._job.request_id, failure.detail, failure.reason)
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
        call = ENGINES[effect.handle.prefill.engine].release(effect.handle.params)
        if call is not None:
            metrics, model, reason = self._runtime.metrics, self._record.model, effect.reason
            self._runtime.releaser.submit(call, reason, lambda: metrics.released(model, reason))


def _read_prefill(engine: Engine, parsed: ParsedRequest, answer: Answer) -> Prefilled:
    try:
        body = json.loads(answer.body)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise LegFailedError(Failure(Leg.PREFILL, Kind.STREAM, "the prefill worker's answer cannot be read"))
    read = engine.read_prefill(parsed.body, body)
    lease = engine.lease(read.params, time.time()) if read.params is not None else 0.0
    return Prefilled(read.params, read.finished, lease)


def _error(why: Failure | NoChoice, model: str) -> ApiError:
    if isinstance(why, NoChoice):
        return no_worker(model, why.reason)
    if why.kind is Kind.TIMEOUT:
        return deadline_exceeded()
    return workers_busy() if why.kind is Kind.BUSY else upstream_failed(why.detail)
