"""What became of each call, and what that says of a fleet."""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tandem_perf.slo import mean_tpot
from tandem_router.types import Choice, Objective, Prediction
from tandem_sim.serving.calls import Call


@dataclass(slots=True)
class Outcome:
    """One call. Clock times in seconds, infinite where it did not come to that; `refused` says why."""

    call: Call
    arrived: float
    started: float = math.inf
    first_token: float = math.inf
    ended: float = math.inf
    refused: str | None = None
    refused_at: float = math.inf
    choice: Choice | None = None
    prediction: Prediction | None = None

    @property
    def ttft(self) -> float:
        return self.first_token - self.arrived

    @property
    def tpot(self) -> float | None:
        if self.ended == math.inf:
            return None
        return mean_tpot(self.ttft, self.ended - self.arrived, self.call.output_tokens)

    def meets(self, objective: Objective) -> bool:
        """Both objectives; a call that has not ended meets none."""
        if self.ended == math.inf:
            return False
        return self.ttft <= objective.ttft and (self.tpot or 0.0) <= objective.tpot


@dataclass(slots=True)
class Report:
    """All outcomes of a run that lasted `seconds`."""

    outcomes: list[Outcome]
    seconds: float
    objectives: dict[str, Objective] = field(default_factory=dict)
    refusals: int = 0
    preemptions: int = 0

    def of(self, service_class: str) -> "Report":
        """The part of one class."""
        chosen = [o for o in self.outcomes if o.call.service_class == service_class]
        return Report(chosen, self.seconds, self.objectives)

    def attainment(self) -> float:
        """The share of calls that met their class's objectives; refused ones did not."""
        if not self.outcomes:
            return 0.0
        return self._met() / len(self.outcomes)

    def goodput(self) -> float:
        """Calls per second that met their objectives."""
        return self._met() / self.seconds

    def paths(self) -> Counter[str]:
        """Calls by path and reason."""
        return Counter(f"{o.choice.path}/{o.choice.reason}" for o in self.outcomes if o.choice)

    def refused(self) -> Counter[str]:
        return Counter(o.refused for o in self.outcomes if o.refused)

    def quantile(self, q: float, of: Callable[[Outcome], float | None]) -> float:
        """Of calls that ended; NaN if there are none."""
        return quantile([v for o in self.outcomes if o.ended < math.inf and (v := of(o)) is not None], q)

    def ttft_error(self) -> float:
        """Median of |predicted - measured| / measured, from the start on a worker."""
        return self._error(lambda o, p: (p.ttft, o.first_token - o.started))

    def tpot_error(self) -> float:
        return self._error(lambda o, p: (p.tpot, o.tpot or 0.0))

    def _error(self, of: Callable[[Outcome, Prediction], tuple[float, float]]) -> float:
        pairs = [
            of(o, o.prediction)
            for o in self.outcomes
            if o.prediction is not None and o.ended < math.inf and o.call.output_tokens > 1
        ]
        return quantile([abs(p - m) / m for p, m in pairs if m > 0], 0.5)

    def _met(self) -> int:
        unbound = Objective()
        return sum(o.meets(self.objectives.get(o.call.service_class, unbound)) for o in self.outcomes)


def quantile(values: Iterable[float], q: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else math.nan
