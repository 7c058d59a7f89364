"""What can happen to a hand-over (events) and what is to be done about it (effects). Values only."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tandem_router.types import UNCONSTRAINED, Choice, Constraint, Endpoint, NoChoice
from tandem_router.values import quick


class Leg(StrEnum):
    PREFILL = "prefill"
    DECODE = "decode"


class Kind(StrEnum):
    """Why a leg failed."""

    CONNECT = "unreachable"
    STATUS = "error"
    BUSY = "busy"
    TIMEOUT = "timeout"
    STREAM = "broken"
    LEASE = "lease_expired"


@quick
@dataclass(frozen=True, slots=True)
class Failure:
    """A leg that failed through no fault of the client. `detail` is for logs and the client: no addresses."""

    leg: Leg
    kind: Kind
    detail: str

    @property
    def reason(self) -> str:
        return f"{self.leg}_{self.kind}"


@quick
@dataclass(frozen=True, slots=True)
class Handle:
    """Leased KV on a prefill worker. Past `deadline` (clock time) nobody may pull it any more."""

    prefill: Endpoint
    params: Mapping[str, Any]
    deadline: float


@quick
@dataclass(frozen=True, slots=True)
class Chosen:
    """`concurrent`: the engine wants both legs at once. `waited_for`: workers that were busy before."""

    choice: Choice | NoChoice
    concurrent: bool = False
    waited_for: frozenset[str] = frozenset()


@quick
@dataclass(frozen=True, slots=True)
class Prefilled:
    """The prefill leg was answered; the KV, if any, is kept for `lease` seconds from now.

    `decode_seconds`: what a decode leg in one piece can take at most once it has the KV; infinite where that
    is not known, and where the engine itself refuses KV that is gone. `prefill`: the worker that answered, if
    it is not the chosen one.
    """

    params: Mapping[str, Any] | None
    finished: bool
    lease: float
    decode_seconds: float = math.inf
    prefill: Endpoint | None = None


@quick
@dataclass(frozen=True, slots=True)
class Failed:
    """`resumable`: what the client has of a stream is known, so another worker can go on with it."""

    failure: Failure
    resumable: bool = False


@quick
@dataclass(frozen=True, slots=True)
class Refused:
    """A worker says that the request itself is wrong (4xx)."""

    leg: Leg = Leg.DECODE


@quick
@dataclass(frozen=True, slots=True)
class FirstToken:
    """The decode leg's first good event, or its whole answer if it is no stream: the KV has been pulled."""


@quick
@dataclass(frozen=True, slots=True)
class Finished:
    """The last byte was sent."""


@quick
@dataclass(frozen=True, slots=True)
class ClientGone:
    pass


Event = Chosen | Prefilled | Failed | Refused | FirstToken | Finished | ClientGone


@quick
@dataclass(frozen=True, slots=True)
class Choose:
    """Ask the pipeline. `retry` names the leg whose failure made it necessary."""

    constraint: Constraint = UNCONSTRAINED
    retry: Leg | None = None


@quick
@dataclass(frozen=True, slots=True)
class SendPrefill:
    choice: Choice
    attempt: int
    deadline: float


@quick
@dataclass(frozen=True, slots=True)
class SendDecode:
    """Send the decode leg. Its first event (of a stream) or its answer must come before `deadline`."""

    choice: Choice
    attempt: int
    handle: Handle | None
    deadline: float


@quick
@dataclass(frozen=True, slots=True)
class SendBoth:
    """Send both legs at once; the event is what either of them comes to first.

    The prefill leg's answer must come before `prefill_deadline`, the decode leg's first event (of a stream)
    or answer before `deadline`.
    """

    choice: Choice
    attempt: int
    prefill_deadline: float
    deadline: float


@quick
@dataclass(frozen=True, slots=True)
class AwaitDecode:
    """The prefill leg of a SendBoth has done its part: the event is what the decode leg comes to."""


@quick
@dataclass(frozen=True, slots=True)
class Cancel:
    """Close this leg's connection: its worker is to give up, and to free what it holds."""

    leg: Leg


@quick
@dataclass(frozen=True, slots=True)
class Release:
    """Give the handle back: nobody will pull it."""

    handle: Handle
    reason: str


@quick
@dataclass(frozen=True, slots=True)
class Relay:
    """Commit to this decode leg: its bytes go to the client."""


@quick
@dataclass(frozen=True, slots=True)
class AnswerPrefill:
    """The prefill leg's answer is the whole answer."""


@quick
@dataclass(frozen=True, slots=True)
class PassRefusal:
    """The worker's 4xx goes to the client as it is."""


@quick
@dataclass(frozen=True, slots=True)
class GiveUp:
    """Answer with an error: nothing has been sent yet."""

    why: Failure | NoChoice


@quick
@dataclass(frozen=True, slots=True)
class BreakStream:
    """End the stream with an error event: something has been sent already."""

    failure: Failure


Effect = (
    Choose
    | SendPrefill
    | SendDecode
    | SendBoth
    | AwaitDecode
    | Cancel
    | Release
    | Relay
    | AnswerPrefill
    | PassRefusal
    | GiveUp
    | BreakStream
)
