"""One HTTP request to a worker: a leg. Failures come out as values that the hand-over understands."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from tandem_router.engines.base import Probe
from tandem_router.http.head import ResponseHead
from tandem_router.http.upstream import Call, ConnectError, Upstreams
from tandem_router.moves import Failure, Kind, Leg
from tandem_router.openai import Api
from tandem_router.sse import EventReader, SseError, error_of, opens_answer, split_events
from tandem_router.types import Endpoint
from tandem_router.values import quick

MAX_ANSWER_BYTES = 64 * 2**20
MAX_HELD_BYTES = 256 * 2**10
"""Of a stream, before its client is there to take it; then the worker waits."""

_BUSY = frozenset({429, 503})
_RETRIABLE = frozenset({408, 409, 410, 412, 424, 425})


@quick
@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP answer of a worker."""

    status: int
    content_type: str
    body: bytes


class LegFailedError(Exception):
    """The leg failed through no fault of the client."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.detail)
        self.failure = failure


class LegRefusedError(Exception):
    """The worker says that the request itself is wrong."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


@quick
@dataclass(frozen=True, slots=True)
class LegRequest:
    """What is sent: to whom, where, and until when (clock time) the answer must have begun."""

    leg: Leg
    endpoint: Endpoint
    api: Api
    body: bytes
    headers: Mapping[str, str]
    deadline: float


class Sink(Protocol):
    """Takes a stream's events on, whole ones, as they come."""

    def write(self, piece: bytes, /) -> None: ...


class Stream(Call):
    """A decode leg's stream from its first token on; `opening` holds the events up to and with it."""

    __slots__ = (
        *("_ended", "_error", "_final", "_finished", "_heard", "_held_back", "_paused", "_sink", "_stall"),
        *("opening", "reader"),
    )

    def __init__(self, pool: Upstreams, deadline: float, reader: EventReader) -> None:
        super().__init__(pool, deadline)
        self.reader = reader
        self.opening = b""
        self._sink: Sink | None = None
        self._finished: asyncio.Future[None] | None = None
        self._ended = self._paused = self._heard = self._held_back = False
        self._final, self._stall = deadline, 0.0
        self._error: Exception | None = None

    def relay(self, sink: Sink, deadline: float, stall: float) -> "asyncio.Future[None]":
        """Passes what comes after `opening` on to `sink`, until the worker ends the stream.

        The future raises LegFailedError when the stream breaks off, when the deadline passes, and when
        nothing comes for `stall` seconds (noticed within twice that) though the client would take it.
        """
        self._final, self._stall = deadline, stall
        self._heard = True
        self.expire()
        self._sink = sink
        self._finished = self.pool.loop.create_future()
        if self._paused:
            self._paused = False
            self.resume()
        self._settle()
        return self._finished

    def expire(self) -> None:
        now = self.pool.loop.time()
        if now < self._final and (self._heard or self._held_back):
            self._heard = False
            self.deadline = min(self._final, now + self._stall)
        else:
            super().expire()

    def data(self, piece: bytes) -> None:
        self._heard = True
        events = self.reader.feed(piece)
        if not events:
            return
        if self._sink is not None:
            self._sink.write(events)
            return
        self.opening += events
        if len(self.opening) > MAX_HELD_BYTES and not self._paused:
            self._paused = True
            self.pause()

    def end(self) -> None:
        self._ended = True
        self._settle()

    def failed(self, error: Exception) -> None:
        self._ended, self._error = True, error
        self._settle()

    def pause(self) -> None:
        self._held_back = True
        if self.connection is not None and not self._ended:
            self.connection.pause()

    def resume(self) -> None:
        self._held_back, self._heard = False, True
        if self.connection is not None and not self._ended:
            self.connection.resume()

    def _settle(self) -> None:
        if self._finished is None or self._finished.done() or not self._ended:
            return
        if self._error is None:
            self._finished.set_result(None)
        else:
            self._finished.set_exception(_failed(Leg.DECODE, self._error))


class _Whole(Call):
    """Collects an answer."""

    __slots__ = ("_leg", "_pieces", "_size", "_status", "_type", "future")

    def __init__(self, pool: Upstreams, request: LegRequest) -> None:
        super().__init__(pool, request.deadline)
        self._leg = request.leg
        self._pieces: list[bytes] = []
        self._size = self._status = 0
        self._type = ""
        self.future: asyncio.Future[Answer | Stream] = pool.loop.create_future()

    def head(self, head: ResponseHead) -> None:
        self._status = head.status
        self._type = head.headers.get("content-type", "application/octet-stream").partition(";")[0]

    def data(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > MAX_ANSWER_BYTES:
            raise SseError(f"an answer is longer than {MAX_ANSWER_BYTES} bytes")

    def end(self) -> None:
        if not self.future.done():
            self.future.set_result(Answer(self._status, self._type, b"".join(self._pieces)))

    def failed(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class _Opening(_Whole):
    """A decode leg before its first token: it becomes a stream, or stays a whole answer.

    A failed KV load is a 200 whose first event is an error, so nothing counts before the first good event.
    """

    __slots__ = ("_reader", "_stream")

    def __init__(self, pool: Upstreams, request: LegRequest, reader: EventReader) -> None:
        super().__init__(pool, request)
        self._reader = reader
        self._stream: Stream | None = None

    def head(self, head: ResponseHead) -> None:
        super().head(head)
        if head.status == 200 and self._type == "text/event-stream":
            self._stream = Stream(self.pool, self.deadline, self._reader)

    def data(self, piece: bytes) -> None:
        stream = self._stream
        if stream is None:
            super().data(piece)
            return
        events = self._reader.feed(piece)
        stream.opening += events
        for event in split_events(events):
            if (error := error_of(event)) is not None:
                self.close()
                self.failed(_error_event(error))
                return
            if opens_answer(event):
                self._open(stream)
                return

    def end(self) -> None:
        if self._stream is None:
            super().end()
        else:
            self.failed(SseError("the stream ended before its first token"))

    def _open(self, stream: Stream) -> None:
        self._reader.is_open = True
        self.hand_to(stream)
        if self.future.done():
            stream.close()
        else:
            self.future.set_result(stream)


async def ask(upstreams: Upstreams, request: LegRequest) -> Answer:
    """The whole answer, which is a 200. Raises LegFailedError or LegRefusedError."""
    answer = await _answer_of(upstreams, request, _Whole(upstreams, request))
    if isinstance(answer, Stream):
        raise TypeError("a stream was not asked for")
    return _checked(request.leg, answer)


async def open_decode(upstreams: Upstreams, request: LegRequest, reader: EventReader) -> Stream | Answer:
    """The decode leg: a stream that has shown its first token, or the whole answer. Raises as `ask` does."""
    opening = _Opening(upstreams, request, reader)
    opened = await _answer_of(upstreams, request, opening)
    return opened if isinstance(opened, Stream) else _checked(request.leg, opened)


async def ask_peer(upstreams: Upstreams, endpoint: Endpoint, probe: Probe, deadline: float) -> bytes:
    """The body of a worker's answer to a probe. Raises OSError, also for an answer that is no 200."""
    request = LegRequest(Leg.PREFILL, endpoint, Api.COMPLETION, b"", {}, deadline)
    call = _Whole(upstreams, request)
    head = f"GET {probe.path} HTTP/1.1\r\nhost: {_host(endpoint.address)}:{probe.port}\r\n\r\n"
    try:
        upstreams.send((endpoint.address, probe.port), head.encode("latin-1"), b"", call)
        answer = await call.future
    except ValueError as error:
        raise ConnectionError(str(error)) from error
    finally:
        if not call.closed:
            call.close()
    if isinstance(answer, Stream) or answer.status != 200:
        raise ConnectionError("the answer is no 200")
    return answer.body


async def _answer_of(upstreams: Upstreams, request: LegRequest, call: _Whole) -> Answer | Stream:
    try:
        endpoint = request.endpoint
        head = _head(endpoint.address, endpoint.port, request.api)
        fields = "".join([f"{name}: {value}\r\n" for name, value in request.headers.items()])
        head += f"{fields}content-length: {len(request.body)}\r\n\r\n".encode("latin-1")
        upstreams.send((endpoint.address, endpoint.port), head, request.body, call)
        return await call.future
    except (OSError, ValueError) as error:
        raise _failed(request.leg, error) from error
    finally:
        if not call.closed:
            call.close()


@lru_cache(maxsize=4096)
def _head(address: str, port: int, api: Api) -> bytes:
    """The part of a head that is the same for all requests to a worker: no compression is asked for."""
    return (
        f"POST {api} HTTP/1.1\r\nhost: {_host(address)}:{port}\r\n"
        "content-type: application/json\r\naccept-encoding: identity\r\n"
    ).encode("latin-1")


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _error_event(error: dict[str, object]) -> LegFailedError | LegRefusedError:
    code = error.get("code")
    if isinstance(code, int) and 400 <= code < 500 and code not in _BUSY | _RETRIABLE:
        return LegRefusedError(Answer(code, "application/json", json.dumps({"error": error}).encode()))
    return LegFailedError(
        Failure(Leg.DECODE, Kind.STATUS, "the decode worker reported an error before its first token")
    )


def _checked(leg: Leg, answer: Answer) -> Answer:
    if answer.status == 200:
        return answer
    if answer.status in _BUSY:
        raise LegFailedError(Failure(leg, Kind.BUSY, f"the {leg} worker is busy ({answer.status})"))
    if 400 <= answer.status < 500 and answer.status not in _RETRIABLE:
        raise LegRefusedError(answer)
    raise LegFailedError(Failure(leg, Kind.STATUS, f"the {leg} worker answered {answer.status}"))


def _failed(leg: Leg, error: Exception) -> LegFailedError:
    if isinstance(error, ConnectError):
        return LegFailedError(Failure(leg, Kind.CONNECT, f"the {leg} worker cannot be reached"))
    if isinstance(error, TimeoutError):
        return LegFailedError(Failure(leg, Kind.TIMEOUT, f"the {leg} worker did not answer in time"))
    return LegFailedError(Failure(leg, Kind.STREAM, f"the {leg} worker broke the connection off"))
