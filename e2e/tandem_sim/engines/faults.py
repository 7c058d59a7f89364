"""Faults that a fake engine shows on demand, each a number of times."""

from collections import deque
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """`error` and `busy` answer 500 and 429, `hang` never answers, `die` closes the connection instead.

    `stream_error` is a 200 whose first event is an error; `late_error` shows one after two tokens,
    `die_mid_stream` closes after two, `truncate` ends after two as if it were complete, but without [DONE].
    `no_params` and `expired` concern the prefill leg: no KV is kept, or its lease has ended already.
    """

    ERROR = "error"
    BUSY = "busy"
    HANG = "hang"
    DIE = "die"
    STREAM_ERROR = "stream_error"
    LATE_ERROR = "late_error"
    DIE_MID_STREAM = "die_mid_stream"
    TRUNCATE = "truncate"
    NO_PARAMS = "no_params"
    EXPIRED = "expired"


@dataclass(slots=True)
class FaultQueue:
    """Faults to show, oldest first, one for each request."""

    waiting: deque[Fault]

    def inject(self, fault: Fault, times: int = 1) -> None:
        self.waiting.extend([fault] * times)

    def take(self) -> Fault | None:
        return self.waiting.popleft() if self.waiting else None
