"""Decode pods that go away under load."""

import time

from tandem_e2e.load import Load, Tally
from tandem_e2e.scenario.run import POOL_LABEL, SERVICE, SERVICE_LABEL, Run

CLIENTS = 6
WARM_UP_SECONDS = 3.0
DECODERS = f"{SERVICE_LABEL}={SERVICE},{POOL_LABEL}=decode"
# What the killed pod was streaming breaks off; the router may need a moment to see that it is gone.
AFTERWARDS_SECONDS = 5.0


def delete_pod(this: Run) -> None:
    """`kubectl delete pod`: the pod drains, and no request fails."""
    tally = _load_while_deleting(this)
    assert not tally.failed, f"{len(tally.failed)} failed, first: {tally.failed[0][1]}"


def kill_pod(this: Run) -> None:
    """A pod killed on the spot breaks at most the streams that it had; later requests succeed."""
    begun = time.monotonic()
    tally = _load_while_deleting(this, "--grace-period=0", "--force")
    late = [error for at, error in tally.failed if at > begun + AFTERWARDS_SECONDS + WARM_UP_SECONDS]
    assert not late, f"{len(late)} requests failed long after the pod was gone, first: {late[0]}"
    assert len(tally.failed) <= CLIENTS, f"{len(tally.failed)} failed: {tally.failed[:3]}"


WARM_UP_SECONDS = 3.0


def _load_while_deleting(this: Run, *options: str) -> Tally:
    victim = this.pods(DECODERS)[0]["metadata"]["name"]
    with Load(this.url, this.expected, CLIENTS) as load:
        this.wait("the load to reach the pod", lambda: load.tally.decoders[victim] > 0, 30)
        time.sleep(WARM_UP_SECONDS)
        this.kubectl("delete", "pod", victim, *options, timeout=120)
        this.settled(prefill=2, decode=2)
        time.sleep(WARM_UP_SECONDS)
    print(f"    {load.tally}")
    assert not load.tally.wrong, f"wrong answers: {load.tally.wrong[:3]}"
    assert load.tally.answered, "no request was answered"
    newcomers = {pod["metadata"]["name"] for pod in this.pods(DECODERS)} - {victim}
    assert newcomers & set(load.tally.decoders), f"nobody took over: {load.tally.decoders}"
    return load.tally
