"""Faults that a simulated engine shows on demand, each a number of times."""

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum


class Fault(StrEnum):
    """What happens to one request.

    Before it is looked at: `error` and `busy` answer 500 and 429, `hang` never answers, `die` closes the
    connection. `stream_error` is a 200 whose first event is an error. In a stream, after two tokens:
    `late_error` shows an error event, `die_mid_stream` closes the connection, `truncate` ends as if all was
    said, but without [DONE], `go_silent` says nothing any more.
    Of the prefill leg: `no_params` keeps no KV, `expired` keeps it under a lease that has ended, `lost_kv`
    frees it at once, `killed_after_prefill` ends the whole engine as soon as its answer is out.
    Of the decode leg: `slow_link` lets the KV take `slow_seconds` more, `late_pull` lets the request wait for
    that long before the KV is asked for.
    """

    ERROR = "error"
    BUSY = "busy"
    HANG = "hang"
    DIE = "die"
    STREAM_ERROR = "stream_error"
    LATE_ERROR = "late_error"
    DIE_MID_STREAM = "die_mid_stream"
    TRUNCATE = "truncate"
    GO_SILENT = "go_silent"
    NO_PARAMS = "no_params"
    EXPIRED = "expired"
    LOST_KV = "lost_kv"
    KILLED_AFTER_PREFILL = "killed_after_prefill"
    SLOW_LINK = "slow_link"
    LATE_PULL = "late_pull"


@dataclass(slots=True)
class FaultQueue:
    """Faults to show, oldest first, one for each request."""

    waiting: deque[Fault] = field(default_factory=deque)

    def inject(self, fault: Fault, times: int = 1) -> None:
        self.waiting.extend([fault] * times)

    def take(self) -> Fault | None:
        return self.waiting.popleft() if self.waiting else None
