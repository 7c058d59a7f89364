"""Writes Events. An Event that cannot be written is logged and never stops a pass."""

import asyncio
import logging
from collections.abc import Callable, Iterable

import aiohttp

from tandem_operator.api import Manifest
from tandem_operator.conditions import Notice
from tandem_operator.events import EventLog, Subject
from tandem_operator.kube import ApiError, Kube

_log = logging.getLogger(__name__)

UNREACHABLE = (ApiError, aiohttp.ClientError, asyncio.TimeoutError)


class Recorder:
    """Publishes notices about objects, as the EventLog counts and bounds them."""

    def __init__(self, kube: Kube, clock: Callable[[], float]) -> None:
        self._kube = kube
        self._clock = clock
        self._events = EventLog()

    async def publish(self, about: Manifest, notices: Iterable[Notice]) -> None:
        """Write each notice as an Event of the object `about`."""
        subject = Subject.of(about)
        for notice in notices:
            where = f"{subject.kind} {subject.namespace}/{subject.name}"
            _log.info("%s: %s: %s", where, notice.reason, notice.message)
            event = self._events.record(subject, notice, self._clock())
            if event is None:
                continue
            try:
                await self._kube.apply(event)
            except UNREACHABLE as error:
                if not is_gone(error):
                    _log.warning("an Event of %s was not written: %s", subject.name, error)


def is_gone(error: BaseException) -> bool:
    """It failed because what it was about is going: nothing to worry people with."""
    return isinstance(error, ApiError) and error.gone
