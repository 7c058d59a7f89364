"""Where workers come from: the seam, and the source that a text such as `file:PATH` names."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from tandem_router.types import Endpoint

Publish = Callable[[Sequence[Endpoint]], None]


class DiscoveryError(Exception):
    """The source cannot be followed at all, and trying again would not help."""


class Discovery(Protocol):
    """Tells which workers there are. A source that fails keeps what it published last, and tries again."""

    async def run(self, publish: Publish) -> None:
        """Calls `publish` with all workers, now and after each change, until cancelled.

        Raises DiscoveryError.
        """
        ...


def parse_source(text: str, model: str) -> Discovery:
    """`file:PATH` or `kubernetes:NAMESPACE/SERVICE`. `model` is for workers whose source names none.

    Raises ValueError for anything else.
    """
    kind, _, rest = text.partition(":")
    if kind == "file" and rest:
        from tandem_router.discovery.file import FileDiscovery

        return FileDiscovery(Path(rest))
    namespace, _, service = rest.partition("/")
    if kind == "kubernetes" and namespace and service and "/" not in service:
        from tandem_router.discovery.kubernetes import PodDiscovery

        return PodDiscovery(namespace, service, model)
    raise ValueError(f"{text!r} is no source of workers: write file:PATH or kubernetes:NAMESPACE/SERVICE")
