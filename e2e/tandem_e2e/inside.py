"""The run inside the namespaces: cluster up, scenario, and what a person needs to see when it fails."""

import signal
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from tandem_e2e.cluster import control_plane, node, sandbox
from tandem_e2e.cluster.processes import Processes
from tandem_e2e.kubectl import Kubectl
from tandem_e2e.outside import Prepared, prepared
from tandem_e2e.prepare import image
from tandem_e2e.settings import IMAGE, Settings
from tandem_e2e.steps import Steps


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
        print(kubectl("get", "nodes"))
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
        with steps.step("images"):
            images.result()
    with steps.step("node"):
        node.start_kubelet(processes, kubectl)
    return kubectl


def on_given_cluster(rundir: Path, settings: Settings, kubeconfig: Path) -> int:
    raise NotImplementedError
