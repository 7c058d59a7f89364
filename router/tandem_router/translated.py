"""A client's request in another API, as one for a chat completion: its answer is translated on its way."""

from collections.abc import Mapping

from tandem_router.errors import upstream_failed
from tandem_router.headers import REQUEST_ID
from tandem_router.http.request import Client, Source
from tandem_router.translate import Answerer

_NOTHING_YET = b":\n\n"


class TranslatedRequest:
    """Stands for `request` towards everything that answers it. `body` is the chat completion's."""

    __slots__ = ("_answerer", "_request", "body", "path")

    def __init__(self, request: Client, path: str, body: bytes, answerer: Answerer) -> None:
        self._request, self._answerer = request, answerer
        self.path, self.body = path, body

    @property
    def received(self) -> float:
        return self._request.received

    @property
    def headers(self) -> Mapping[str, str]:
        return self._request.headers

    @property
    def status(self) -> int:
        return self._request.status

    @property
    def started(self) -> bool:
        return self._request.started

    def respond(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        if status == 200:
            try:
                body = self._answerer.whole(body)
            except ValueError:
                error = upstream_failed("the answer of a worker cannot be read")
                status, body = error.status, self._answerer.error(error.status, error.encode())
        else:
            body = self._answerer.error(status, body)
        self._request.respond(status, {**_named(headers), "content-type": "application/json"}, body)

    def start(self, status: int, headers: Mapping[str, str], first: bytes) -> None:
        self._request.start(status, _named(headers), self._answerer.feed(first) or _NOTHING_YET)

    def write(self, piece: bytes) -> None:
        if translated := self._answerer.feed(piece):
            self._request.write(translated)

    def finish(self) -> None:
        self._request.finish()

    def feed_from(self, source: Source) -> None:
        self._request.feed_from(source)

    def abort(self) -> None:
        self._request.abort()


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    """The id of a request has another name in the Messages API."""
    return {**headers, "request-id": headers[REQUEST_ID]}
