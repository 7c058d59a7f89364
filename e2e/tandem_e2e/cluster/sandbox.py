"""The namespaces that hold the cluster, and what they would leave on the machine."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tandem_e2e.rundir import CGROUPS
from tandem_e2e.shell import run

NODE_IP = "10.244.0.1"
BRIDGE = "k8sbr0"
WIND_DOWN_SECONDS = 60
# The kubelet insists on these. They belong to the whole machine, so it is shown files that say so already.
SYSCTLS = {"kernel/panic": "10", "kernel/panic_on_oops": "1", "vm/overcommit_memory": "1"}
# A shell in the namespaces of a run in progress.
ENTER = """#!/bin/sh
exec nsenter --target $(cat /proc/{pid}/task/{pid}/children) --net --mount --pid \\
    env KUBECONFIG={rundir}/pki/admin.kubeconfig PATH="$(cat {rundir}/path)" "${{@:-bash}}"
"""


def enter(rundir: Path) -> int:
    """Run this program again in fresh network, mount and PID namespaces, and return its exit status.

    However this process dies, everything in the namespaces goes: processes, mounts, links, firewall rules.
    """
    command = (
        *("setpriv", "--pdeathsig", "KILL"),
        *("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
        *(sys.executable, "-m", "tandem_e2e", "--inside", str(rundir)),
    )
    process = subprocess.Popen(command, start_new_session=True)
    (rundir / "enter.sh").write_text(ENTER.format(pid=process.pid, rundir=rundir))
    try:
        return process.wait()
    except KeyboardInterrupt:
        os.kill(_init_of(process.pid), signal.SIGTERM)
        return process.wait(WIND_DOWN_SECONDS)
    finally:
        process.kill()
        process.wait()


def _init_of(unshare: int) -> int:
    """The init process of the namespaces, as this side numbers it: the only child of `unshare`."""
    return int(Path(f"/proc/{unshare}/task/{unshare}/children").read_text())


def as_init(main: Callable[[], int]) -> int:
    """Run `main` in a child; be the init process that reaps what the container shims leave behind."""
    child = os.fork()
    if child == 0:
        return main()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGINT))
    while True:
        pid, status = os.wait()
        if pid == child:
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def furnish(rundir: Path) -> str:
    """Give the namespaces their mounts, their bridge and their control group; return the group's name."""
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    for name in ("log/pods", "log/containers", "lib/cni"):
        (rundir / "var" / name).mkdir(parents=True)
        (Path("/var") / name).mkdir(parents=True, exist_ok=True)
        run("mount", "--bind", rundir / "var" / name, Path("/var") / name)
    for key, value in SYSCTLS.items():
        shown = Path("/run/sysctl") / key
        shown.parent.mkdir(parents=True, exist_ok=True)
        shown.write_text(f"{value}\n")
        run("mount", "--bind", shown, Path("/proc/sys") / key)
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", BRIDGE, "type", "bridge")
    run("ip", "addr", "add", f"{NODE_IP}/24", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")
    run("ip", "route", "add", "default", "dev", BRIDGE)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    return _control_group(rundir.name)


def _control_group(name: str) -> str:
    """One group in each hierarchy (version 1) or in the one there is (version 2)."""
    unified = (CGROUPS / "cgroup.controllers").exists()
    for hierarchy in [CGROUPS] if unified else CGROUPS.glob("*/"):
        (hierarchy / name).mkdir(exist_ok=True)
    cpuset = CGROUPS / "cpuset"
    if cpuset.exists():
        for file in ("cpuset.cpus", "cpuset.mems"):  # version 1 starts them empty, which takes no process
            (cpuset / name / file).write_text((cpuset / file).read_text())
    return name
