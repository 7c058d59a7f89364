"""A router without a queue, to compare with: every request goes to a worker at once, and waits there."""

from collections.abc import Iterable

from tandem_router.moves import Leg
from tandem_router.queueing.decisions import Decision, Reason, Refuse, Start, Wait
from tandem_router.types import UNCONSTRAINED, Choice, Constraint, Endpoint, NoChoice, RequestInfo
from tandem_sim.serving.door import Door


class Direct:
    """What a door asks of a scheduler, without waiting. It only keeps account of the load."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._held: dict[str, tuple[RequestInfo, list[str]]] = {}

    def submit(self, info: RequestInfo, _now: float, /) -> Start | Wait | Refuse:
        choice = self._door.choose(info, UNCONSTRAINED)
        if isinstance(choice, NoChoice):
            return Refuse(info.request_id, Reason.NO_CAPACITY)
        self._hold(info, choice)
        return Start(info.request_id, choice)

    def again(self, request_id: str, constraint: Constraint, _now: float, /) -> Start | Wait | NoChoice:
        info, names = self._held[request_id]
        self._free(info, names)
        names.clear()
        choice = self._door.choose(info, constraint)
        if isinstance(choice, NoChoice):
            return choice
        self._hold(info, choice)
        return Start(request_id, choice)

    def ended(self, request_id: str, leg: Leg, _now: float, /) -> list[Decision]:
        info, names = self._held[request_id]
        if leg is Leg.PREFILL:
            self._free(info, names[:-1])
            del names[:-1]
        else:
            self._free(info, names)
            del self._held[request_id]
        return []

    def _hold(self, info: RequestInfo, choice: Choice) -> None:
        names = [e.name for e in (choice.prefill, choice.decode) if e is not None]
        for name in names:
            self._door.loads.begin(name, info.prompt_tokens)
        self._held[info.request_id] = (info, names)

    def _free(self, info: RequestInfo, names: list[str]) -> None:
        for name in names:
            self._door.loads.end(name, info.prompt_tokens)

    def workers_changed(self, _endpoints: Iterable[Endpoint], _now: float, /) -> list[Decision]:
        return []

    def first_token(self, _request_id: str, _now: float, /) -> list[Decision]:
        return []

    def busy(self, _worker: str, _now: float, /) -> list[Decision]:
        return []

    def reported(self, _now: float, /) -> list[Decision]:
        return []

    def tick(self, _now: float, /) -> list[Decision]:
        return []

    def due(self) -> float | None:
        return None
