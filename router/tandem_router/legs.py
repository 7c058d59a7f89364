"""One HTTP request to a worker: a leg. Failures come out as values that the hand-over understands."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import aiohttp
from yarl import URL

from tandem_router.moves import Failure, Kind, Leg
from tandem_router.openai import Api
from tandem_router.sse import EventReader, SseError, error_of, opens_answer, split_events
from tandem_router.types import Endpoint

CONNECT_SECONDS = 2.0
KEEPALIVE_SECONDS = 3.0
"""Below the 5 s after which uvicorn, in front of vLLM, closes an idle connection."""
MAX_ANSWER_BYTES = 64 * 2**20

_BUSY = frozenset({429, 503})
_RETRIABLE = frozenset({408, 409, 410, 412, 424, 425})
_IO_ERRORS = (aiohttp.ClientError, OSError, SseError)


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


class Stream:
    """A decode leg's stream from its first token on; `opening` holds the events up to and with it."""

    __slots__ = ("_response", "opening", "reader")

    def __init__(self, response: aiohttp.ClientResponse, reader: EventReader, opening: bytes) -> None:
        self._response, self.reader, self.opening = response, reader, opening

    async def read(self) -> bytes | None:
        """What to forward next, possibly nothing yet; None at the end. Raises LegFailedError."""
        try:
            data = await self._response.content.readany()
            return self.reader.feed(data) if data else None
        except _IO_ERRORS as error:
            raise _failed(Leg.DECODE, error) from error

    def close(self) -> None:
        """Closes the connection unless the stream has ended: that is how the worker learns of it."""
        self._response.close()


@dataclass(frozen=True, slots=True)
class LegRequest:
    """What is sent: to whom, where, and until when (clock time) the answer must have begun."""

    leg: Leg
    endpoint: Endpoint
    api: Api
    body: bytes
    headers: Mapping[str, str]
    deadline: float


def new_session(max_connections: int) -> aiohttp.ClientSession:
    """The connections to all workers: no cookies, no compression, no proxy from the environment."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=max_connections, keepalive_timeout=KEEPALIVE_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_connect=CONNECT_SECONDS),
        headers={"content-type": "application/json", "accept-encoding": "identity"},
        auto_decompress=False,
    )


async def ask(session: aiohttp.ClientSession, request: LegRequest) -> Answer:
    """The whole answer, which is a 200. Raises LegFailedError or LegRefusedError."""
    try:
        async with asyncio.timeout_at(request.deadline), _post(session, request) as response:
            answer = await _read(response)
    except (*_IO_ERRORS, TimeoutError) as error:
        raise _failed(request.leg, error) from error
    return _checked(request.leg, answer)


async def open_decode(
    session: aiohttp.ClientSession, request: LegRequest, *, drop_usage: bool
) -> Stream | Answer:
    """The decode leg: a stream that has shown its first token, or the whole answer. Raises as `ask` does.

    A failed KV load is a 200 whose first event is an error, so nothing counts before the first good event.
    """
    stream: Stream | None = None
    response: aiohttp.ClientResponse | None = None
    try:
        async with asyncio.timeout_at(request.deadline):
            response = await _post(session, request)
            if response.status != 200 or response.content_type != "text/event-stream":
                return _checked(request.leg, await _read(response))
            stream = await _opened(response, EventReader(drop_usage=drop_usage))
            return stream
    except (*_IO_ERRORS, TimeoutError) as error:
        raise _failed(request.leg, error) from error
    finally:
        if response is not None and stream is None:
            response.close()


@lru_cache(maxsize=4096)
def _url(address: str, port: int, api: Api) -> URL:
    return URL.build(scheme="http", host=address, port=port, path=api)


def _post(session: aiohttp.ClientSession, request: LegRequest) -> "aiohttp.client._RequestContextManager":
    url = _url(request.endpoint.address, request.endpoint.port, request.api)
    return session.post(url, data=request.body, headers=request.headers, allow_redirects=False)


async def _read(response: aiohttp.ClientResponse) -> Answer:
    body = bytearray()
    while data := await response.content.readany():
        body += data
        if len(body) > MAX_ANSWER_BYTES:
            raise SseError(f"an answer is longer than {MAX_ANSWER_BYTES} bytes")
    return Answer(response.status, response.content_type, bytes(body))


async def _opened(response: aiohttp.ClientResponse, reader: EventReader) -> Stream:
    opening = b""
    while data := await response.content.readany():
        piece = reader.feed(data)
        opening += piece
        for event in split_events(piece):
            if (error := error_of(event)) is not None:
                raise _error_event(error)
            if opens_answer(event):
                return Stream(response, reader, opening)
    raise LegFailedError(
        Failure(Leg.DECODE, Kind.STREAM, "the decode worker's stream ended before its first token")
    )


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
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return LegFailedError(Failure(leg, Kind.CONNECT, f"the {leg} worker cannot be reached"))
    if isinstance(error, TimeoutError):
        return LegFailedError(Failure(leg, Kind.TIMEOUT, f"the {leg} worker did not answer in time"))
    return LegFailedError(Failure(leg, Kind.STREAM, f"the {leg} worker broke the connection off"))
