"""Workers that a request has to leave to others, for now."""

from collections.abc import Iterable
from typing import Protocol

from tandem_router.queueing.reserve import reserved
from tandem_router.queueing.waiting import Waiting
from tandem_router.types import Endpoint

_NONE: frozenset[str] = frozenset()


class Fence(Protocol):
    """Keeps some workers for some requests."""

    def workers_changed(self, endpoints: Iterable[Endpoint], /) -> None: ...

    def avoid(self, waiting: Waiting, now: float, /) -> frozenset[str]:
        """Names of the workers that are closed to the request."""
        ...

    def opens(self, waiting: Waiting, /) -> float | None:
        """Clock time from which less is closed to it."""
        ...


class ShortPromptWorkers:
    """A share of the prefill workers takes no long prompts: short ones never stand behind one (LAPS)."""

    def __init__(self, long_tokens: int, share: float) -> None:
        self._long_tokens, self._share = long_tokens, share
        self._reserved = _NONE

    def workers_changed(self, endpoints: Iterable[Endpoint], /) -> None:
        self._reserved = reserved(endpoints, self._share, "short")

    def avoid(self, waiting: Waiting, _now: float, /) -> frozenset[str]:
        return self._reserved if waiting.info.prompt_tokens >= self._long_tokens else _NONE

    def opens(self, _waiting: Waiting, /) -> float | None:
        return None


class UrgentWorkers:
    """A share of the prefill workers is for requests that are about to miss their objective (Ascendra).

    `slack`: the part of the objective that may be left when a request becomes urgent.
    """

    def __init__(self, share: float, slack: float) -> None:
        self._share, self._slack = share, slack
        self._reserved = _NONE

    def workers_changed(self, endpoints: Iterable[Endpoint], /) -> None:
        self._reserved = reserved(endpoints, self._share, "urgent")

    def avoid(self, waiting: Waiting, now: float, /) -> frozenset[str]:
        opens = self.opens(waiting)
        return _NONE if opens is not None and now >= opens else self._reserved

    def opens(self, waiting: Waiting, /) -> float | None:
        objective = waiting.tier.ttft or waiting.tier.deadline
        return None if objective is None else max(waiting.arrived, waiting.latest - self._slack * objective)
