"""The prompts that one worker was given and has not answered: the work in front of the next one."""

from dataclasses import dataclass, field
from typing import NamedTuple

_SAME_STEP = 0.2
"""A prompt that is done this soon after another, as a share of its own time, was computed with it."""

_LATE = 3.0
"""A prompt that takes so many times its own time is not there for being computed with others."""


class Work(NamedTuple):
    """Steps, new tokens and attended tokens, as `OnlineLatency.prefilled` takes them."""

    steps: float
    new_tokens: float
    attended_tokens: float

    def joined(self, other: "Work") -> "Work":
        """Both in one step."""
        return Work(
            self.steps, self.new_tokens + other.new_tokens, self.attended_tokens + other.attended_tokens
        )


class Sample(NamedTuple):
    """So much work took so many seconds."""

    work: Work
    seconds: float


def work_of(new_tokens: int, prefix_tokens: int) -> Work:
    """Of one prompt: as `tandem_perf.latency.Chunk` counts."""
    return Work(1.0, new_tokens, new_tokens * (prefix_tokens + new_tokens / 2))


@dataclass(slots=True, eq=False)
class Ticket:
    """One prompt on one worker; `seconds` as reckoned when it was sent at `sent`."""

    work: Work
    seconds: float
    sent: float


@dataclass(slots=True)
class Prompts:
    """First come, first served. `hidden_until`: prompts whose end nobody will see should be done by then."""

    outstanding: dict[Ticket, None] = field(default_factory=dict)
    seconds: float = 0.0
    head_since: float = 0.0
    hidden_until: float = 0.0
    credit: float = 0.0
    clean: bool = True
    pending: Sample | None = None

    def wait(self, now: float) -> float:
        """Seconds until the work that is here now is done."""
        hidden = max(0.0, self.hidden_until - now)
        for head in self.outstanding:
            progress = self.credit + min(now - self.head_since, _LATE * head.seconds)
            return hidden + max(0.0, self.seconds - progress)
        return hidden

    def add(self, ticket: Ticket) -> None:
        if not self.outstanding:
            self.head_since = ticket.sent
        self.outstanding[ticket] = None
        self.seconds += ticket.seconds

    def hide(self, seconds: float, now: float) -> None:
        """A prompt that nobody will see the end of."""
        self.hidden_until = max(self.hidden_until, now) + seconds
        self.clean = False

    def done(self, ticket: Ticket, now: float) -> Sample | None:
        """The prompt was computed. What this tells about an earlier one's time, if that is certain now."""
        waited = ticket.sent < self.head_since
        elapsed = now - max(ticket.sent, self.head_since)
        # What took longer was computed together with a part of the next ones.
        self.credit = max(0.0, self.credit + elapsed - ticket.seconds)
        self._remove(ticket, now)
        if not self.clean or now < self.hidden_until:
            self.pending = None
            self.clean = not self.outstanding and now >= self.hidden_until
            return None
        before = self.pending
        if before is not None and waited and elapsed < _SAME_STEP * ticket.seconds:
            self.pending = Sample(before.work.joined(ticket.work), before.seconds + elapsed)
            return None
        self.pending = Sample(ticket.work, elapsed)
        return before

    def drop(self, ticket: Ticket, now: float) -> None:
        """The prompt was given up: what was computed of it cannot be known."""
        self._remove(ticket, now)
        self.clean, self.pending = not self.outstanding, None

    def _remove(self, ticket: Ticket, now: float) -> None:
        del self.outstanding[ticket]
        self.seconds = self.seconds - ticket.seconds if self.outstanding else 0.0
        self.credit = min(self.credit, self.seconds)
        self.head_since = now
