"""The planner follows the load, by what a real Prometheus says."""

from operator import lt

from tandem_e2e.kubectl import Object
from tandem_e2e.load import Load
from tandem_e2e.prometheus import Prometheus
from tandem_e2e.scenario.run import NAMESPACE, SERVICE, Run

CLIENTS = 24
QUICK: Object = {"mode": "slo", "interval": "3s", "cooldown": {"up": "6s", "down": "12s"}}
SERIES = f'llmservice="{SERVICE}",namespace="{NAMESPACE}"'


def autoscale(this: Run, prometheus: Prometheus) -> None:
    """Load rises and the pools grow; it falls and they shrink; nothing fails; the decisions can be seen."""
    spec = {"autoscaling": {**QUICK, "prometheus": prometheus.url}}
    this.kubectl.patch("llmservice", SERVICE, {"spec": spec})
    with Load(this.url, this.expected, clients=1, pause=1.0) as trickle:
        this.wait("the pools to shrink to one worker each", lambda: _sizes(this) == (1, 1), 150)
        with Load(this.url, this.expected, CLIENTS) as rush:
            this.wait("both pools to grow", lambda: min(_sizes(this)) >= 2, 180)
            this.wait("the new workers to be ready", lambda: min(_ready(this)) >= 2, 120)
            grown = _sizes(this)
        this.wait("both pools to shrink again", lambda: all(map(lt, _sizes(this), grown)), 180)
        shrunk = _sizes(this)
    print(f"    prefill and decode grew to {grown}, shrank to {shrunk}; {rush.tally}")
    failed = rush.tally.failed + trickle.tally.failed
    assert not failed, f"{len(failed)} requests failed, first: {failed[0][1]}"
    assert not rush.tally.wrong + trickle.tally.wrong, "wrong answers"
    _visible(this, prometheus)
    this.kubectl.patch("llmservice", SERVICE, {"spec": {"autoscaling": {"mode": "manual"}}})


def _visible(this: Run, prometheus: Prometheus) -> None:
    service = this.kubectl.get("llmservice", SERVICE) or {}
    decision = service["status"].get("autoscaling") or {}
    assert decision.get("lastDecision"), "status does not tell the last decision"
    assert decision.get("reason"), "status does not tell why"
    print(f"    last decision: {decision['lastDecision']}, because {decision['reason']}")
    events = [event["message"] for event in this.kubectl.events(SERVICE) if event["reason"] == "Scaled"]
    assert events, "no Event about a decision"
    for direction in ("up", "down"):
        query = f'tandem_planner_decisions_total{{{SERIES},direction="{direction}"}}'
        assert prometheus.value(query), f"{query} returns nothing"


def _sizes(this: Run) -> tuple[int, int]:
    return this.pool("prefill")["desired"], this.pool("decode")["desired"]


def _ready(this: Run) -> tuple[int, int]:
    return this.pool("prefill")["ready"], this.pool("decode")["ready"]
