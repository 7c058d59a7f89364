"""Service classes as the queue sees them: objectives in seconds."""

from collections.abc import Iterable
from dataclasses import dataclass

from tandem_router.durations import parse_duration
from tandem_wire.router_settings import ServiceClass

DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Tier:
    """One latency tier. Seconds; None is no objective of that kind.

    `ttft` and `deadline` count from the arrival: the first token, the whole answer. `tpot`: per later token.
    """

    name: str = DEFAULT
    ttft: float | None = None
    tpot: float | None = None
    deadline: float | None = None
    priority: int = 0
    sheddable: bool = True
    offline: bool = False


def tiers(classes: Iterable[ServiceClass], default: Tier) -> dict[str, Tier]:
    """The tiers by name; `default` is that of requests without a class, unless a class has its name."""
    found = {default.name: default}
    for given in classes:
        found[given.name] = Tier(
            given.name,
            ttft=_seconds(given.ttft),
            tpot=_seconds(given.tpot),
            deadline=_seconds(given.deadline),
            priority=given.priority,
            sheddable=given.sheddable,
            offline=given.offline,
        )
    return found


def _seconds(text: str | None) -> float | None:
    return None if text is None else parse_duration(text)
