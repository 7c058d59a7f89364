"""Latency models of the workers: one for each engine, model and GPU, and how each worker differs from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tandem_perf.online import OnlineLatency
from tandem_perf.profile import Profile
from tandem_router.predict.beside import Outlook
from tandem_router.predict.streams import Streams
from tandem_router.types import Endpoint

SAMPLES_A_SECOND = 50.0
"""More would not make a model better, only dearer."""
KV_BYTES_PER_TOKEN = 131_072
"""Where no profile tells it. Only its product with the learned bandwidth counts."""


@dataclass(frozen=True, slots=True)
class Seed:
    """A profile, and which workers it is for; an empty name is any."""

    profile: Profile
    model: str = ""
    gpu: str = ""

    def fits(self, endpoint: Endpoint) -> bool:
        return self.model in ("", endpoint.model) and self.gpu in ("", endpoint.gpu)


class Key(NamedTuple):
    """Workers of one key are taken to be alike."""

    engine: str
    model: str
    gpu: str


class Shared:
    """The model of one key, and the streams of all its workers, of which `streamers` have had some.

    `due` thins samples out, to SAMPLES_A_SECOND of each phase.
    """

    def __init__(self, seed: Profile | None) -> None:
        self.latency = OnlineLatency(None if seed is None else seed.latency)
        self.kv_bytes_per_token = KV_BYTES_PER_TOKEN if seed is None else seed.kv_bytes_per_token
        self.outlook, self.streams, self.streamers = Outlook(), Streams(), 0
        self._next: dict[str, float] = {}

    def due(self, phase: str, now: float) -> bool:
        if now < self._next.get(phase, 0.0):
            return False
        self._next[phase] = now + 1 / SAMPLES_A_SECOND
        return True


class Models:
    """Every model that a worker needed so far."""

    def __init__(self, seeds: Sequence[Seed] = ()) -> None:
        self._seeds = tuple(seeds)
        self._shared: dict[Key, Shared] = {}

    def of(self, endpoint: Endpoint) -> Shared:
        key = Key(endpoint.engine, endpoint.model, endpoint.gpu)
        found = self._shared.get(key)
        if found is None:
            seed = next((seed.profile for seed in self._seeds if seed.fits(endpoint)), None)
            found = self._shared[key] = Shared(seed)
        return found
