"""One run of a service in virtual time: a load in, what came of it out; the same for the same seed."""

import math
from collections.abc import Sequence
from functools import partial
from random import Random

from tandem_router.predict.forecaster import Forecaster
from tandem_router.queueing.build import scheduler
from tandem_sim.clock import Clock
from tandem_sim.serving.calls import Call, Load
from tandem_sim.serving.door import Door, Scheduler
from tandem_sim.serving.outcome import Outcome, Report
from tandem_sim.serving.service import Service

PATIENCE = 120.0
"""Seconds after the last arrival in which what is in flight may end; sessions go on for half of them."""


class Fleet:
    """Workers, and routers in front of them."""

    def __init__(self, service: Service) -> None:
        self.service, self.clock = service, Clock()
        self._random = Random(service.seed)
        self.workers = service.workers(self.clock, self._random)
        self.doors = [self._door() for _ in range(service.doors)]
        self.outcomes: list[Outcome] = []
        self._places: dict[str, Door] = {}
        self._open = 0
        self._stop = 0.0

    def run(self, load: Load) -> Report:
        """Plays the load. Calls that have not ended by then count as lost."""
        starts = [call.at for call in load.calls] + [session[0].at for session in load.sessions]
        for call in load.calls:
            self.clock.after(call.at, partial(self._arrive, (call,), 0))
        for session in load.sessions:
            self.clock.after(session[0].at, partial(self._arrive, session, 0))
        self._tell()
        last = max(starts, default=0.0)
        self._stop = last + PATIENCE / 2
        self.clock.run(last)
        while self._open and self.clock.now < last + PATIENCE:
            self.clock.run(self.clock.now + 1.0)
        workers = self.workers.values()
        return Report(
            self.outcomes,
            max(last, 1.0),
            self.service.objectives(),
            refusals=sum(worker.refusals for worker in workers),
            preemptions=sum(worker.preemptions for worker in workers),
        )

    def _arrive(self, session: Sequence[Call], index: int) -> None:
        def done(_outcome: Outcome) -> None:
            self._open -= 1
            if index + 1 < len(session) and self.clock.now < self._stop:
                self.clock.after(session[index + 1].at, partial(self._arrive, session, index + 1))

        call = session[index]
        self._open += 1
        self.outcomes.append(outcome := Outcome(call, self.clock.now))
        self._place(call).arrive(outcome, done)

    def _place(self, call: Call) -> Door:
        door = self._random.choice(self.doors)
        return self._places.setdefault(call.session, door) if call.session else door

    def _tell(self) -> None:
        reports = {name: worker.report() for name, worker in self.workers.items()}
        for door in self.doors:
            self.clock.after(self.service.report_delay, partial(door.heard, reports))
        self.clock.after(self.service.report_every, self._tell)

    def _door(self) -> Door:
        service = self.service
        forecaster = Forecaster(lambda: self.clock.now, service.objectives(), service.seeds())
        make = service.make_scheduler or partial(_scheduler, service)
        random = Random(self._random.random())
        return Door(self.clock, self.workers, service.policy, forecaster, make, random)


def _scheduler(service: Service, door: Door) -> Scheduler:
    return scheduler(service.settings, door.choose, door.loads, door.reports, default=service.tier())


def run(service: Service, load: Load) -> Report:
    """The load on a new fleet."""
    return Fleet(service).run(load)


def sustainable(service: Service, load: Load, *, share: float = 0.9, within: float = 0.05) -> float:
    """The factor on the load's rate up to which `share` of its calls meet their objectives, by bisection.

    `within` is relative. 0 if even a hundredth of the rate is too much.
    """

    def good(factor: float) -> bool:
        return run(service, load.faster(factor)).attainment() >= share

    low, high = 0.0, 1.0
    while good(high):
        low, high = high, high * 2
        if high > 1024:
            return math.inf
    while low == 0.0 and high > 0.01:
        if good(high / 2):
            low = high / 2
        else:
            high /= 2
    while low and high - low > within * low:
        middle = (low + high) / 2
        low, high = (middle, high) if good(middle) else (low, middle)
    return low
