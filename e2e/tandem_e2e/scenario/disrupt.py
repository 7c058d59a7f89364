"""Decode workers that go away under load."""

import time
from collections.abc import Callable

from tandem_e2e.kubectl import Object
from tandem_e2e.load import Load, Tally
from tandem_e2e.scenario.run import POOL_LABEL, SERVICE, SERVICE_LABEL, Run

CLIENTS = 6
WARM_UP_SECONDS = 3.0
# The router may need a moment to see that a worker is gone.
AFTERWARDS_SECONDS = 5.0
DECODERS = f"{SERVICE_LABEL}={SERVICE},{POOL_LABEL}=decode"


def delete_pod(this: Run) -> None:
    """`kubectl delete pod`: the worker drains, and no request fails."""
    tally, _ = _disrupted(this, lambda pod: _delete(this, pod))
    assert not tally.failed, f"{len(tally.failed)} failed, first: {tally.failed[0][1]}"


def force_delete_pod(this: Run) -> None:
    """Deleted with no time to drain: at most the requests that the worker had break off."""
    _bounded(*_disrupted(this, lambda pod: _delete(this, pod, "--grace-period=0", "--force")))


def crash_worker(this: Run, crash: Callable[[Object], None]) -> None:
    """Its process is killed on the spot: at most the requests that the worker had break off."""
    _bounded(*_disrupted(this, crash))


def _delete(this: Run, pod: Object, *options: str) -> None:
    this.kubectl("delete", "pod", pod["metadata"]["name"], *options, timeout=120)


def _bounded(tally: Tally, at: float) -> None:
    late = [error for when, error in tally.failed if when > at + AFTERWARDS_SECONDS]
    assert not late, f"{len(late)} requests failed long after the worker was gone, first: {late[0]}"
    assert len(tally.failed) <= CLIENTS, f"{len(tally.failed)} failed: {tally.failed[:3]}"


def _disrupted(this: Run, disrupt: Callable[[Object], None]) -> tuple[Tally, float]:
    """What load made of it, and when (time.monotonic()) the worker went."""
    victim = this.pods(DECODERS)[0]
    name = victim["metadata"]["name"]
    with Load(this.url, this.expected, CLIENTS) as load:
        this.wait("the load to reach the pod", lambda: load.tally.decoders[name] > 0, 30)
        time.sleep(WARM_UP_SECONDS)
        at = time.monotonic()
        disrupt(victim)
        before = load.tally.answered
        time.sleep(WARM_UP_SECONDS)
        this.settled(prefill=2, decode=2)
        assert load.tally.answered > before, "nobody answered afterwards"
    print(f"    {load.tally}")
    assert not load.tally.wrong, f"wrong answers: {load.tally.wrong[:3]}"
    return load.tally, at
