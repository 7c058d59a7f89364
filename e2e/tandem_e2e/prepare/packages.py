"""Programs of Debian packages. Daemons are unpacked into the cache, not installed: no service starts here."""

import shutil
from pathlib import Path

from tandem_e2e.shell import CommandError, run

COMMANDS = {
    "conntrack": "conntrack",
    "ip": "iproute2",
    "iptables": "iptables",
    "mmdebstrap": "mmdebstrap",
    "openssl": "openssl",
    "setpriv": "util-linux",
    "unshare": "util-linux",
}
BUILD_COMMANDS = {"/usr/lib/go-1.19/bin/go": "golang-1.19-go", "dpkg-source": "dpkg-dev"}
DAEMONS = {
    "usr/bin/containerd": "containerd",
    "usr/bin/etcd": "etcd-server",
    "usr/bin/prometheus": "prometheus",
    "usr/lib/cni/bridge": "containernetworking-plugins",
    "usr/sbin/runc": "runc",
}


def install(commands: dict[str, str]) -> None:
    """Install the packages of those commands that the machine lacks."""
    missing = sorted({package for command, package in commands.items() if shutil.which(command) is None})
    if not missing:
        return
    run("apt-get", "update", "-qq", timeout=300)
    run("apt-get", "install", "-y", "-q", "--no-install-recommends", *missing, timeout=900)


def unpack_daemons(cache: Path) -> Path:
    """A folder that holds the trees of the daemons' packages."""
    root = cache / "debian"
    missing = {package for path, package in DAEMONS.items() if not (root / path).exists()}
    if missing:
        downloads = cache / "downloads"
        downloads.mkdir(parents=True, exist_ok=True)
        _download(sorted(missing), downloads)
        for file in downloads.glob("*.deb"):
            run("dpkg-deb", "-x", file, root)
        shutil.rmtree(downloads)
    return root


def _download(packages: list[str], into: Path) -> None:
    fetch = ("apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", *packages)
    try:
        run(*fetch, cwd=into, timeout=600)
    except CommandError:  # a machine whose package lists are old or absent
        run("apt-get", "update", "-qq", timeout=300)
        run(*fetch, cwd=into, timeout=600)
