"""A plan as metrics, and as the one decision that status and Events show."""

from collections.abc import Sequence

from tandem_operator.api import LLMService
from tandem_operator.planner.types import Decision, Missing, Observation, Reason
from tandem_operator.scaling import ScalingDecision
from tandem_wire import metrics
from tandem_wire.collectors import Collectors

PLANNER_METRICS = (metrics.PLANNER_DESIRED, metrics.PLANNER_DECISIONS, metrics.PLANNER_ERRORS)

_MOST_TELLING = (Reason.NO_DATA, Reason.AT_MAXIMUM, Reason.STARTING, Reason.SETTLING, Reason.CONFIRMING)


class PlannerMetrics:
    """The planner's series on collectors that hold PLANNER_METRICS."""

    def __init__(self, collectors: Collectors) -> None:
        self._desired = collectors.gauge(metrics.PLANNER_DESIRED)
        self._decisions = collectors.counter(metrics.PLANNER_DECISIONS)
        self._errors = collectors.counter(metrics.PLANNER_ERRORS)
        self._known: set[tuple[str, ...]] = set()

    def publish(
        self, service: LLMService, seen: Observation | Missing, decisions: Sequence[Decision]
    ) -> None:
        for decision in decisions:
            labels = (service.metadata.namespace, service.metadata.name, decision.pool, decision.role)
            self._known.add(labels)
            self._desired.labels(*labels).set(decision.desired)
            if decision.changes:
                self._decisions.labels(*labels, decision.direction, decision.reason).inc()
        if isinstance(seen, Missing):
            self.failed(service, seen.reason)

    def failed(self, service: LLMService, reason: str) -> None:
        """Counts a pass that had nothing to decide from or could not be carried out."""
        self._errors.labels(service.metadata.namespace, service.metadata.name, reason).inc()

    def forget(self, service: LLMService) -> None:
        """Drops the gauges of a service that is no longer planned."""
        ours = {key for key in self._known if key[:2] == (service.metadata.namespace, service.metadata.name)}
        for labels in ours:
            self._desired.remove(*labels)
        self._known -= ours


def summary(seen: Observation | Missing, decisions: Sequence[Decision]) -> ScalingDecision:
    """All pools as one decision: the changes if there are any, else why nothing changes."""
    changes = [decision for decision in decisions if decision.changes]
    if isinstance(seen, Missing) and not changes:
        return ScalingDecision(_word(Reason.NO_DATA), seen.text, observed=False)
    told = changes or list(decisions)
    reason = changes[0].reason if changes else _reason_to_hold(decisions)
    return ScalingDecision(
        _word(reason),
        "; ".join(map(str, told)),
        {decision.pool: decision.desired for decision in changes},
        observed=reason is not Reason.NO_DATA,
    )


def _reason_to_hold(decisions: Sequence[Decision]) -> Reason:
    reasons = {decision.reason for decision in decisions}
    return next((reason for reason in _MOST_TELLING if reason in reasons), Reason.STEADY)


def _word(reason: Reason) -> str:
    return "".join(part.capitalize() for part in reason.split("_"))
