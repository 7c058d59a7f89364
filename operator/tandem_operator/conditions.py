"""Conditions: their transition times, and what a transition means as an Event. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from tandem_operator.api import Condition

MAX_MESSAGE = 1024


@dataclass(frozen=True, slots=True)
class Finding:
    """What is true now of one condition type; `holds` None is Unknown."""

    type: str
    holds: bool | None
    reason: str
    message: str = ""

    @property
    def status(self) -> Literal["True", "False", "Unknown"]:
        if self.holds is None:
            return "Unknown"
        return "True" if self.holds else "False"


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to tell people in an Event."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


def timestamp(now: float) -> str:
    """RFC 3339 in UTC, whole seconds, from Unix seconds."""
    return datetime.fromtimestamp(int(now), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def merge(
    previous: Iterable[Condition], findings: Sequence[Finding], generation: int, now: float
) -> tuple[Condition, ...]:
    """The conditions of `findings`. A status that stays keeps the time at which it began."""
    known = {condition.type: condition for condition in previous}
    return tuple(_merged(known.get(finding.type), finding, generation, now) for finding in findings)


def _merged(before: Condition | None, finding: Finding, generation: int, now: float) -> Condition:
    stays = before is not None and before.status == finding.status
    return Condition(
        type=finding.type,
        status=finding.status,
        reason=finding.reason,
        message=finding.message[:MAX_MESSAGE],
        last_transition_time=before.last_transition_time if before and stays else timestamp(now),
        observed_generation=generation,
    )


def notices(previous: Iterable[Condition], current: Iterable[Condition]) -> list[Notice]:
    """Events for what changed: the service became available or not, something broke or recovered."""
    known = {condition.type: condition for condition in previous}
    found = (_notice(known.get(condition.type), condition) for condition in current)
    return [notice for notice in found if notice is not None]


def _notice(before: Condition | None, now: Condition) -> Notice | None:
    was = before.status if before else None
    if now.type == "Available" and was != now.status:
        if now.status == "True":
            return Notice("Normal", "Available", now.message)
        return Notice("Warning", now.reason, now.message) if was == "True" else None
    if now.type == "Degraded":
        if now.status == "True" and (was != "True" or (before and before.message != now.message)):
            return Notice("Warning", now.reason, now.message)
        if now.status == "False" and was == "True":
            return Notice("Normal", "Recovered", now.message)
    return None
