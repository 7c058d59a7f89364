"""What the scheduler says of a request: start now, wait, or be refused. Values only."""

from dataclasses import dataclass
from enum import StrEnum

from tandem_router.types import Choice
from tandem_router.values import quick


class Reason(StrEnum):
    """Why a request is refused; the `code` of the answer."""

    UNATTAINABLE = "class_unattainable"
    QUEUE_FULL = "queue_full"
    NO_CAPACITY = "no_capacity"
    DEADLINE = "deadline_exceeded"


@quick
@dataclass(frozen=True, slots=True)
class Start:
    """Send it to these workers now. `waited`: seconds in the queue."""

    request_id: str
    choice: Choice
    waited: float = 0.0


@quick
@dataclass(frozen=True, slots=True)
class Wait:
    """It is in the queue. `expected`: seconds until it starts, None while nothing is known."""

    expected: float | None = None


@quick
@dataclass(frozen=True, slots=True)
class Refuse:
    """It is not served. `retry_after`: seconds after which it would have been taken, None if unknown."""

    request_id: str
    reason: Reason
    retry_after: float | None = None
    waited: float = 0.0


Decision = Start | Refuse
"""What becomes of a request that waited."""


@quick
@dataclass(frozen=True, slots=True)
class Served:
    """What an answer was, as the engines counted. `cached_share`: of its prompt, None if they do not tell."""

    output_tokens: int = 0
    cached_share: float | None = None


NOTHING = Served()
