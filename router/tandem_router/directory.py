"""The workers as the router knows them now: what discovery published last."""

from collections.abc import Sequence
from random import Random

from tandem_router.pipeline import choose
from tandem_router.types import Choice, Endpoint, RequestInfo


class Directory:
    """Holds the newest endpoints; `model` is known even while no worker serves it."""

    def __init__(self, model: str = "") -> None:
        self._model = model
        self.endpoints: tuple[Endpoint, ...] = ()
        self.models: tuple[str, ...] = ()
        self.publish(())

    def publish(self, endpoints: Sequence[Endpoint]) -> None:
        self.endpoints = tuple(endpoints)
        self.models = tuple(sorted({e.model for e in endpoints} | ({self._model} if self._model else set())))

    def knows_address(self, address: str) -> bool:
        return any(e.address == address for e in self.endpoints)

    def serves(self) -> bool:
        """Whether some request of some model would find workers."""
        rng = Random(0)  # noqa: S311 - breaks ties, guards nothing
        probes = (RequestInfo("", model, prompt_tokens=0, stream=True) for model in self.models)
        return any(isinstance(choose(probe, self.endpoints, {}, rng), Choice) for probe in probes)
