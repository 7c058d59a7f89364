"""Reads a stream that could go on elsewhere, or that is the rest of another one."""

from tandem_router.continuation.emitted import Emitted, without_ids
from tandem_router.continuation.joint import Joint
from tandem_router.sse import EventReader, error_of, split_events


class ResumableReader(EventReader):
    """`shows_ids`: the client asked for token ids itself.

    Once the stream is `open`, an error event and what follows is withheld: the stream may yet go on.
    """

    __slots__ = ("_joint", "_shows_ids", "emitted")

    def __init__(
        self, *, drop_usage: bool, shows_ids: bool, emitted: Emitted, joint: Joint | None = None
    ) -> None:
        super().__init__(drop_usage=drop_usage)
        self.emitted = emitted
        self._shows_ids, self._joint = shows_ids, joint

    def _read(self, data: bytes) -> bytes:
        if self.is_open and (self.withheld or b'"error"' in data):
            data = self._before_error(data)
        if not data:
            return data
        self.emitted.add(data)
        if self._joint is not None:
            data = self._joint.write(data)
        if not self._shows_ids:
            data = without_ids(data)
        return super()._read(data)

    def _before_error(self, data: bytes) -> bytes:
        before: list[bytes] = []
        for event in split_events(data):
            if self.withheld or error_of(event) is not None:
                self.withheld += event
            else:
                before.append(event)
        return b"".join(before)
