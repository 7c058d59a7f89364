"""What each router is put through, as data: the load, and how the mock engines behave meanwhile."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FOR_EVER_US = 600_000_000
STEP_US = 20_000


@dataclass(frozen=True, slots=True)
class Phase:
    """One measurement. `load`: options of the load generator. `engine`: settings of the mock, else all zero.

    `fresh`: it begins with a router that has served nothing yet, since its memory is what counts.
    `leavers`: afterwards, how many aborts did the engines see within two seconds?
    """

    name: str
    what: str
    load: Mapping[str, Any]
    engine: Mapping[str, int] = field(default_factory=dict)
    fresh: bool = False
    leavers: bool = False
    two_legs_only: bool = False


def _streams(clients: int, name: str, what: str, **engine: int) -> Phase:
    load = {
        "mode": "stream",
        "clients": clients,
        "tokens": 128,
        "warm_up": 3.0,
        "stagger": 2.56,
        "seconds": 4,
    }
    return Phase(name, what, load, {"itl_us": STEP_US, **engine})


PHASES = (
    Phase(
        "idle",
        "1,000 streams that are silent after their first token, and then their clients leave",
        {"mode": "idle", "clients": 1000, "tokens": 128, "stagger": 2, "seconds": 1},
        {"itl_us": FOR_EVER_US},
        fresh=True,
        leavers=True,
    ),
    Phase(
        "leave-prefill",
        "1,000 clients that leave while their prefill is computed",
        {"mode": "leave", "clients": 1000, "tokens": 128, "stagger": 2, "warm_up": 2, "seconds": 1},
        {"prefill_us": FOR_EVER_US, "itl_us": FOR_EVER_US},
        leavers=True,
        two_legs_only=True,
    ),
    Phase(
        "slow-readers",
        "20 clients that stop reading after the first token of an endless stream",
        {"mode": "slow", "clients": 20, "tokens": 1_000_000, "stagger": 0.5, "seconds": 3},
        fresh=True,
    ),
    Phase("one", "one client, not streamed", {"clients": 1, "warm_up": 0.5, "seconds": 2}),
    Phase("256b", "64 clients, prompts of 256 B, not streamed", {"clients": 64, "seconds": 3}),
    Phase(
        "16kb",
        "64 clients, prompts of 16 KB, not streamed",
        {"clients": 64, "prompt": 16_384, "seconds": 3},
    ),
    Phase(
        "1mib",
        "4 clients, prompts of 1 MiB, not streamed",
        {"clients": 4, "prompt": 1_048_576, "warm_up": 0.5, "seconds": 2},
    ),
    _streams(50, "streams-50", "50 streams, a token each 20 ms"),
    _streams(200, "streams-200", "200 streams, a token each 20 ms"),
    _streams(500, "streams-500", "500 streams, a token each 20 ms"),
    _streams(200, "steps-200", "200 streams whose tokens leave together each 20 ms", steps=1),
)
