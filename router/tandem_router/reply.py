"""The client's side of a request: a whole answer, or a stream that is passed on as it comes."""

from tandem_router.answers import answer_headers, public_body
from tandem_router.errors import ApiError
from tandem_router.http.request import Client
from tandem_router.legs import Answer, LegFailedError, Stream
from tandem_router.moves import Failure, Kind, Leg
from tandem_router.record import Record
from tandem_router.runtime import Clock
from tandem_router.sse import find_usage, with_cached_tokens


class Reply:
    """Builds one answer and notes in `record` what the client got and when.

    A stream's events come straight from the worker's connection (`write`); a client that reads slowly holds
    the worker back.
    """

    __slots__ = ("_client", "_clock", "_record", "_request_id")

    def __init__(self, client: Client, record: Record, request_id: str, clock: Clock) -> None:
        self._client, self._record, self._request_id, self._clock = client, record, request_id, clock

    def whole(self, answer: Answer) -> None:
        """Takes a worker's whole answer, good or a refusal, without what is internal."""
        body = answer.body
        if answer.status == 200 and (cached := self._record.handed_cached_tokens) is not None:
            body = with_cached_tokens(body, cached)
        self._record.usage = find_usage(body)
        headers = answer_headers(self._record, self._request_id, self._clock())
        headers["content-type"] = answer.content_type
        self._client.respond(answer.status, headers, public_body(body))

    async def relay(self, stream: Stream, deadline: float, stall: float) -> Failure | None:
        """Passes a stream on until its end; what broke it off, if something did (see Stream.relay)."""
        if self._client.started:
            self.write(stream.opening)
        else:
            self._open(stream.opening)
        stream.opening = b""
        ended = stream.relay(self, deadline, stall)
        self._client.feed_from(stream)
        try:
            await ended
        except LegFailedError as error:
            return error.failure
        self._record.usage = stream.reader.usage
        if stream.reader.withheld:
            return Failure(Leg.DECODE, Kind.STATUS, "the decode worker reported an error")
        if stream.reader.error:
            self._record.stream_error = "engine_error"
        elif not stream.reader.done:
            return Failure(Leg.DECODE, Kind.STREAM, "the decode worker's stream broke off")
        self._client.finish()
        return None

    def write(self, piece: bytes) -> None:
        """Takes on events of the stream."""
        self._record.last_token = self._clock()
        self._client.write(piece)

    def finish(self, ending: bytes) -> None:
        """Ends a stream with the events that its worker did not come to."""
        self._client.write(ending)
        self._client.finish()

    def last_words(self, failure: Failure, withheld: bytes = b"") -> None:
        """Ends a stream that has begun with an error event: the worker's own, or one without [DONE]."""
        if withheld:
            self._record.stream_error = "engine_error"
            self.finish(withheld)
            return
        self._record.stream_error = failure.reason
        error = ApiError(500, f"the answer broke off: {failure.detail}", failure.reason)
        self.finish(b"data: " + error.encode() + b"\n\n")

    def _open(self, opening: bytes) -> None:
        """Begins the answer with the events up to the first token."""
        record = self._record
        record.first_token = record.last_token = self._clock()
        headers = answer_headers(record, self._request_id, record.first_token)
        headers["content-type"] = "text/event-stream; charset=utf-8"
        headers["cache-control"] = "no-cache"
        self._client.start(200, headers, opening)
