"""`make e2e`: prepare, enter the namespaces, bring the cluster up, play the scenario, report."""

import os
import signal
import sys
from pathlib import Path

from tandem_e2e import inside, outside, rundir
from tandem_e2e.cluster import sandbox
from tandem_e2e.door import PortForwards
from tandem_e2e.kubectl import Kubectl
from tandem_e2e.prepare import binaries
from tandem_e2e.prometheus import Prometheus
from tandem_e2e.scenario.run import NAMESPACE, Run
from tandem_e2e.settings import Settings, from_environment
from tandem_e2e.steps import Steps, table

USAGE = "usage: bash e2e/cluster/run.sh   (settings are environment variables: docs/e2e.md)"


def main(arguments: list[str]) -> int:
    """Run everything; 0 when every step passed."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    match arguments:
        case []:
            return _outside()
        case ["--inside", folder]:
            return sandbox.as_init(lambda: inside.main(Path(folder), from_environment()))
        case _:
            print(USAGE, file=sys.stderr)
            return 2


def _outside() -> int:
    settings = from_environment()
    with rundir.fresh() as folder:
        record = folder / "steps.jsonl"
        try:
            return _run(folder, settings, Steps(record))
        except KeyboardInterrupt:
            return 130
        finally:
            print(f"\n{table(record)}", flush=True)


def _run(folder: Path, settings: Settings, steps: Steps) -> int:
    if settings.kubeconfig is not None:
        return _on_given_cluster(settings, settings.kubeconfig, steps)
    if os.geteuid() != 0:
        print("needs root to make a cluster, or KUBECONFIG and E2E_IMAGE to use one", file=sys.stderr)
        return 1
    outside.prepare(folder, settings, steps)
    return sandbox.enter(folder)


def _on_given_cluster(settings: Settings, kubeconfig: Path, steps: Steps) -> int:
    """The scenario on a cluster that exists, with kubectl and helm from PATH, else from the cache."""
    clients = binaries.fetch_clients(settings.cache)
    path = binaries.search_path(clients)
    kubectl = Kubectl(binaries.find("kubectl", path), kubeconfig, NAMESPACE)
    doors = PortForwards(kubectl)
    prometheus = Prometheus(settings.prometheus) if settings.prometheus else None
    this = Run(kubectl, binaries.find("helm", path), settings.image, doors, prometheus)
    try:
        return inside.play(this, steps)
    finally:
        doors.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
