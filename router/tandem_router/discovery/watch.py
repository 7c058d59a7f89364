"""List pods, then follow them: resume where the watch broke off, list again after 410 (forgotten)."""

import json
import logging
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from typing import Any, cast

from kubernetes import client
from kubernetes.client.exceptions import ApiException
from urllib3 import HTTPResponse
from urllib3.exceptions import HTTPError

from tandem_router.discovery.pods import endpoint_of, selector
from tandem_router.types import Endpoint

LIST_TIMEOUT = (5, 30)
WATCH_SECONDS = 60
"""The server ends a watch after this; the read timeout is longer, for when it does not."""
WATCH_TIMEOUT = (5, WATCH_SECONDS + 10)
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0

_FAILURES = (ApiException, HTTPError, OSError, ValueError, KeyError)
_log = logging.getLogger(__name__)


class PodWatch:
    """Keeps the workers of one service and tells `publish` after each change. `run` blocks until `stop`."""

    def __init__(
        self,
        api: client.CoreV1Api,
        namespace: str,
        service: str,
        model: str,
        publish: Callable[[Sequence[Endpoint]], None],
    ) -> None:
        self._api, self._namespace, self._model, self._publish = api, namespace, model, publish
        self._selector = selector(service)
        self._workers: dict[str, Endpoint] = {}
        self._version: str | None = None
        self._stopped = threading.Event()
        self._response: HTTPResponse | None = None

    def run(self) -> None:
        pause = FIRST_PAUSE
        while not self._stopped.is_set():
            try:
                if self._version is None:
                    self._list()
                self._follow()
                pause = FIRST_PAUSE
            except _FAILURES as error:
                if self._stopped.is_set():
                    return
                if isinstance(error, ApiException) and error.status == HTTPStatus.GONE:
                    self._version = None
                _log.warning("watching pods failed, again in %.1f s: %s", pause, _summary(error))
                self._stopped.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, guards nothing
                pause = min(2 * pause, LONGEST_PAUSE)

    def stop(self) -> None:
        """Ends `run` soon, also while it waits for the server."""
        self._stopped.set()
        response = self._response
        if response is not None:
            response.shutdown()

    def _list(self) -> None:
        response = self._request(_request_timeout=LIST_TIMEOUT)
        pods = json.loads(response.data)
        found = [endpoint_of(pod, self._model) for pod in pods["items"]]
        self._workers = {worker.name: worker for worker in found if worker is not None}
        self._version = pods["metadata"]["resourceVersion"]
        self._tell()

    def _follow(self) -> None:
        self._response = self._request(
            watch=True,
            resource_version=self._version,
            allow_watch_bookmarks=True,
            timeout_seconds=WATCH_SECONDS,
            _request_timeout=WATCH_TIMEOUT,
        )
        try:
            # Looked at after the response is in place: `stop` either finds it there or is seen here.
            lines = _lines(self._response)
            while not self._stopped.is_set() and (line := next(lines, None)) is not None:
                self._apply(json.loads(line))
        finally:
            self._response.close()
            self._response = None

    def _request(self, **arguments: Any) -> HTTPResponse:
        answer: object = self._api.list_namespaced_pod(
            self._namespace, label_selector=self._selector, _preload_content=False, **arguments
        )
        response = cast(HTTPResponse, answer)
        if response.status != HTTPStatus.OK:
            raise ApiException(status=response.status, reason=response.reason)
        return response

    def _apply(self, event: dict[str, Any]) -> None:
        kind, pod = event["type"], event["object"]
        if kind == "ERROR":
            raise ApiException(status=pod.get("code"), reason=pod.get("message"))
        self._version = pod["metadata"]["resourceVersion"]
        if kind == "BOOKMARK":
            return
        name = pod["metadata"]["name"]
        worker = None if kind == "DELETED" else endpoint_of(pod, self._model)
        if worker == self._workers.get(name):
            return
        if worker is None:
            del self._workers[name]
        else:
            self._workers[name] = worker
        self._tell()

    def _tell(self) -> None:
        if not self._stopped.is_set():
            self._publish(tuple(self._workers.values()))


def _lines(response: HTTPResponse) -> Iterator[bytes]:
    rest = b""
    for data in response.stream(amt=None, decode_content=False):
        *lines, rest = (rest + data).split(b"\n")
        yield from (line for line in lines if line)


def _summary(error: Exception) -> str:
    if isinstance(error, ApiException):
        return f"{error.status} {error.reason}"
    return f"{type(error).__name__}: {error}"
