"""What is prepared on the machine before the namespaces exist, because it needs the network."""

import pickle
from dataclasses import dataclass
from pathlib import Path

from tandem_e2e.prepare import binaries, layers, packages
from tandem_e2e.prepare.layers import Layer
from tandem_e2e.settings import Settings
from tandem_e2e.steps import Steps


@dataclass(frozen=True, slots=True)
class Prepared:
    """Where everything lies: `path` finds the programs, `plugins` the CNI plugins; `layers` is the image."""

    path: str
    plugins: Path
    pause: Path
    layers: list[Layer]


def prepare(rundir: Path, settings: Settings, steps: Steps) -> None:
    """Fetch and build what is not cached yet, and leave a note of it for the inside."""
    settings.cache.mkdir(parents=True, exist_ok=True)
    log = rundir / "prepare.log"
    with steps.step("Debian packages"):
        packages.install(packages.COMMANDS)
        daemons = packages.unpack_daemons(settings.cache)
    with steps.step("kubectl and helm"):
        clients = binaries.fetch_clients(settings.cache)
    with steps.step("Kubernetes 1.20.2 from source"):
        servers = binaries.build_kubernetes(settings.cache, log)
    with steps.step("image: Debian with Python"):
        base = layers.base(settings.cache, log)
    with steps.step("image: dependencies"):
        dependencies = layers.dependencies(settings.cache, log)
    with steps.step("image: the project"):
        project = layers.project(rundir, log)
    assets = [settings.assets] if settings.assets else []
    path = binaries.search_path(*assets, servers, clients, daemons / "usr/bin", daemons / "usr/sbin")
    plugins = daemons / "usr/lib/cni"
    prepared = Prepared(path, plugins, servers / "pause", [base, dependencies, project])
    (rundir / "path").write_text(path)
    (rundir / "prepared.pickle").write_bytes(pickle.dumps(prepared))


def prepared(rundir: Path) -> Prepared:
    """What `prepare` left."""
    found = pickle.loads((rundir / "prepared.pickle").read_bytes())
    if not isinstance(found, Prepared):
        raise TypeError(f"{rundir} holds no Prepared")
    return found
