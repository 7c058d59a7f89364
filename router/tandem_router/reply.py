"""The client's side of a request: a whole answer, or a stream that is passed on as it comes."""

import asyncio
import logging

from aiohttp import web

from tandem_router.answers import answer_headers, public_body
from tandem_router.errors import ApiError
from tandem_router.legs import Answer, LegFailedError, Stream
from tandem_router.moves import Failure, Kind, Leg
from tandem_router.record import Record
from tandem_router.sse import find_usage

LAST_WORDS_SECONDS = 1.0

_log = logging.getLogger(__name__)


class ClientLeftError(Exception):
    """The client closed its connection while it was written to."""


class Reply:
    """Builds one answer and notes in `record` what the client got and when."""

    def __init__(self, client: web.Request, record: Record, request_id: str) -> None:
        self._client, self._record, self._request_id = client, record, request_id
        self._clock = asyncio.get_running_loop().time
        self.response: web.StreamResponse = web.Response(status=500)

    def whole(self, answer: Answer) -> None:
        """Takes a worker's whole answer, good or a refusal, without what is internal."""
        self._record.usage = find_usage(answer.body)
        headers = answer_headers(self._record, self._request_id, self._clock())
        headers["content-type"] = answer.content_type
        self.response = web.Response(status=answer.status, body=public_body(answer.body), headers=headers)

    async def relay(self, stream: Stream, deadline: float) -> Failure | None:
        """Passes a stream on until its end; what broke it off, if something did.

        A client that reads slowly slows the worker down: nothing piles up here. Raises ClientLeftError.
        """
        try:
            async with asyncio.timeout_at(deadline):
                await self._pump(stream)
        except LegFailedError as error:
            return error.failure
        except TimeoutError:
            return Failure(Leg.DECODE, Kind.TIMEOUT, "the request's deadline passed")
        except ConnectionResetError as error:
            raise ClientLeftError from error
        self._record.usage = stream.reader.usage
        if stream.reader.error:
            self._record.stream_error = "engine_error"
        elif not stream.reader.done:
            return Failure(Leg.DECODE, Kind.STREAM, "the decode worker's stream broke off")
        return None

    async def last_words(self, failure: Failure) -> None:
        """Ends a stream that has begun with an error event, and without [DONE]: it is not complete."""
        self._record.stream_error = failure.reason
        error = ApiError(500, f"the answer broke off: {failure.detail}", failure.reason)
        try:
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await self.response.write(b"data: " + error.encode() + b"\n\n")
        except (ConnectionResetError, TimeoutError):
            _log.info("request %s: the client did not read that its stream broke off", self._request_id)
            if self._client.transport is not None:
                self._client.transport.abort()

    async def _pump(self, stream: Stream) -> None:
        record = self._record
        record.first_token = record.last_token = self._clock()
        headers = answer_headers(record, self._request_id, record.first_token)
        headers |= {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
        self.response = web.StreamResponse(headers=headers)
        await self.response.prepare(self._client)
        await self.response.write(stream.opening)
        while (piece := await stream.read()) is not None:
            if piece:
                record.last_token = self._clock()
                await self.response.write(piece)
