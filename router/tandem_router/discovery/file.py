"""Workers from a JSON file that is replaced atomically: the local runner's way."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from tandem_router.discovery import Publish
from tandem_router.engines import ENGINES
from tandem_router.types import Endpoint

POLL_SECONDS = 0.25

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EndpointsFile:
    endpoints: tuple[Endpoint, ...]


_FILE = TypeAdapter(EndpointsFile)


def parse_endpoints(data: bytes) -> tuple[Endpoint, ...]:
    """Endpoints of a file's content. Raises ValueError with what is wrong."""
    try:
        endpoints = _FILE.validate_json(data).endpoints
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{place}: {first['msg']}" if place else first["msg"]) from error
    names = [endpoint.name for endpoint in endpoints]
    if len(set(names)) < len(names):
        raise ValueError("two endpoints have the same name")
    for endpoint in endpoints:
        if endpoint.engine not in ENGINES:
            raise ValueError(
                f"{endpoint.name}: unknown engine {endpoint.engine!r}; known: {', '.join(ENGINES)}"
            )
        if not 0 < endpoint.port < 65536:
            raise ValueError(f"{endpoint.name}: {endpoint.port} is no port")
    return endpoints


class FileDiscovery:
    """Looks at the file's identity four times a second and reads it when that changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._missing = False

    async def run(self, publish: Publish) -> None:
        while True:
            endpoints = self._changed()
            if endpoints is not None:
                publish(endpoints)
            await asyncio.sleep(POLL_SECONDS)

    def _changed(self) -> Sequence[Endpoint] | None:
        """The endpoints if the file is new and good; a bad or missing file is logged once."""
        try:
            status = self._path.stat()
            seen = (status.st_ino, status.st_mtime_ns, status.st_size)
            if seen == self._seen:
                return None
            data = self._path.read_bytes()
        except OSError as error:
            if not self._missing:
                _log.warning("cannot read the endpoints file: %s", error)
            self._missing = True
            return None
        self._seen, self._missing = seen, False
        try:
            return parse_endpoints(data)
        except ValueError as error:
            _log.error("the endpoints file %s is not used: %s", self._path, error)
            return None
