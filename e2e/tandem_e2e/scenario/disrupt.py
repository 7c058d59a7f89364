"""Decode workers that go away under load."""

import time
from collections.abc import Callable

from tandem_e2e.kubectl import Object
from tandem_e2e.load import Load, Tally
from tandem_e2e.scenario.run import POOL_LABEL, SERVICE, SERVICE_LABEL, Run

CLIENTS = 6
WARM_UP_SECONDS = 3.0
DECODERS = f"{SERVICE_LABEL}={SERVICE},{POOL_LABEL}=decode"


def delete_pod(this: Run) -> None:
    """`kubectl delete pod`: the worker drains, and no request fails."""
    _none_failed(_disrupted(this, lambda pod: _delete(this, pod)))


def force_delete_pod(this: Run) -> None:
    """Deleted with no time to drain: its streams go on at another worker, and no request fails."""
    _none_failed(_disrupted(this, lambda pod: _delete(this, pod, "--grace-period=0", "--force")))


def crash_worker(this: Run, crash: Callable[[Object], None]) -> None:
    """Its process is killed on the spot: its streams go on at another worker, and no request fails."""
    _none_failed(_disrupted(this, crash))


def _delete(this: Run, pod: Object, *options: str) -> None:
    this.kubectl("delete", "pod", pod["metadata"]["name"], *options, timeout=120)


def _none_failed(tally: Tally) -> None:
    assert not tally.failed, f"{len(tally.failed)} failed, first: {tally.failed[0][1]}"


def _disrupted(this: Run, disrupt: Callable[[Object], None]) -> Tally:
    """What load made of it."""
    victim = this.pods(DECODERS)[0]
    name = victim["metadata"]["name"]
    with Load(this.url, this.expected, CLIENTS) as load:
        this.wait("the load to reach the pod", lambda: load.tally.decoders[name] > 0, 30)
        time.sleep(WARM_UP_SECONDS)
        disrupt(victim)
        before = load.tally.answered
        time.sleep(WARM_UP_SECONDS)
        this.settled(prefill=2, decode=2)
        assert load.tally.answered > before, "nobody answered afterwards"
    print(f"    {load.tally}")
    assert not load.tally.wrong, f"wrong answers: {load.tally.wrong[:3]}"
    return load.tally
