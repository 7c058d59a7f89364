"""The workers as the router knows them now: what discovery published last."""

from collections.abc import Sequence

from tandem_router.candidates import Candidates, candidates
from tandem_router.engines import ENGINES
from tandem_router.types import Endpoint


class Directory:
    """Holds the newest endpoints; `model` is known even while no worker serves it."""

    def __init__(self, model: str = "") -> None:
        self._model = model
        self.endpoints: tuple[Endpoint, ...] = ()
        self._ports: frozenset[tuple[str, int]] = frozenset()
        self.models: dict[str, Candidates] = {}
        self.publish(())

    def publish(self, endpoints: Sequence[Endpoint]) -> None:
        self.endpoints = tuple(endpoints)
        self._ports = frozenset((e.address, port) for e in endpoints for port in _ports(e))
        names = {e.model for e in endpoints} | ({self._model} if self._model else set())
        self.models = {name: candidates(endpoints, name) for name in sorted(names)}

    def candidates(self, model: str) -> Candidates:
        """Every way to serve `model` now."""
        return self.models.get(model) or candidates((), model)

    def knows(self, address: str, port: int) -> bool:
        """Whether a worker serves there, or may be probed there: the router calls no other."""
        return (address, port) in self._ports

    def knows_address(self, address: str) -> bool:
        return any(e.address == address for e in self.endpoints)

    def serves(self) -> bool:
        """Whether some request of some model would find workers."""
        return any(found.wholes or found.sides for found in self.models.values())


def _ports(endpoint: Endpoint) -> tuple[int, ...]:
    probe = ENGINES[endpoint.engine].probe(endpoint)
    return (endpoint.port,) if probe is None else (endpoint.port, probe.port)
