"""The run inside the namespaces: cluster up, scenario, and what a person needs to see when it fails."""

import json
import signal
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import yaml

from tandem_e2e import diagnose, monitors, scenario, suites
from tandem_e2e.cluster import control_plane, node, sandbox
from tandem_e2e.cluster.processes import Processes
from tandem_e2e.discovery import Discovery
from tandem_e2e.door import ClusterIps
from tandem_e2e.kubectl import Kubectl
from tandem_e2e.outside import Prepared, prepared
from tandem_e2e.prepare import image
from tandem_e2e.prepare.binaries import find
from tandem_e2e.prometheus import Prometheus
from tandem_e2e.scenario.run import NAMESPACE, OPERATOR_NAMESPACE, Run
from tandem_e2e.settings import IMAGE, REPO, Settings
from tandem_e2e.shell import run, until
from tandem_e2e.steps import Steps

SCRAPE_INTERVAL = "2s"


def main(rundir: Path, settings: Settings) -> int:
    """Bring the cluster up and play the scenario on it; 0 when every step passed."""
    steps = Steps(rundir / "steps.jsonl")
    found = prepared(rundir)
    with steps.step("namespaces"):
        cgroup = sandbox.furnish(rundir)
    values = {"address": sandbox.NODE_IP, "bridge": sandbox.BRIDGE, "cgroup": cgroup}
    values |= {"plugins": str(found.plugins), "pause": node.PAUSE_IMAGE}
    processes = Processes(rundir, found.path, values)
    try:
        kubectl = _bring_up(rundir, processes, found, steps)
        with steps.step("Prometheus"):
            prometheus = _start_prometheus(rundir, processes)
        demo = kubectl.within(NAMESPACE)
        this = Run(
            demo, find("helm", found.path), IMAGE, ClusterIps(demo), prometheus, partial(node.crash, cgroup)
        )
        with Discovery(rundir / "targets", kubectl):
            return play(this, steps)
    except KeyboardInterrupt:
        return 130
    except Exception:
        traceback.print_exc()
        return 1
    finally:
        if settings.keep:
            print(f"the cluster stays up until Ctrl-C; a shell in it: sh {rundir}/enter.sh", flush=True)
            with suppress(KeyboardInterrupt):
                signal.pause()
        processes.stop()


def play(this: Run, steps: Steps) -> int:
    """Play the scenario; 0 when every step passed, else 1 after showing what there is to see."""
    try:
        scenario.play(this, steps)
    except Exception:
        diagnose.show(this.kubectl)
        traceback.print_exc()
        return 1
    return 0


def _bring_up(rundir: Path, processes: Processes, found: Prepared, steps: Steps) -> Kubectl:
    def load_images() -> None:
        ctr = node.start_containerd(rundir, processes)
        node.load(ctr, node.PAUSE_IMAGE, image.PAUSE, [image.pause_layer(found.pause, rundir)])
        node.load(ctr, IMAGE, image.TANDEM, found.layers)

    with ThreadPoolExecutor(1) as pool:
        images = pool.submit(load_images)
        with steps.step("control plane"):
            kubectl = control_plane.start(rundir, processes)
        with steps.step("operator on the API server alone"):
            suites.operator_alone(kubectl)
        with steps.step("planner's queries on Prometheus"):
            suites.telemetry(found.path)
        with steps.step("images"):
            images.result()
    with steps.step("node"):
        node.start_kubelet(processes, kubectl)
    return kubectl


def _start_prometheus(rundir: Path, processes: Processes) -> Prometheus:
    """A Prometheus that scrapes what the chart's monitors select."""
    chart = (find("helm", processes.path), "template", "tandem", REPO / "charts/tandem")
    options = (f"--namespace={OPERATOR_NAMESPACE}", "--api-versions=monitoring.coreos.com/v1")
    rendered = yaml.safe_load_all(run(*chart, *options))
    chosen = [manifest for manifest in rendered if manifest["kind"].endswith("Monitor")]
    configuration = monitors.configuration(chosen, rundir / "targets", SCRAPE_INTERVAL)
    (rundir / "prometheus.yml").write_text(json.dumps(configuration, indent=1))
    processes.start("prometheus")
    prometheus = Prometheus(f"http://{sandbox.NODE_IP}:9090")
    until("Prometheus", lambda: processes.check() and prometheus.ready(), 60)
    return prometheus
