"""Offline work fills the room that online work leaves, as far as a latency budget allows (after HyGen)."""

from collections.abc import Iterable
from dataclasses import dataclass

from tandem_router.queueing.capacity import Capacity
from tandem_router.queueing.waiting import Waiting
from tandem_router.types import Choice, Prediction


@dataclass(frozen=True, slots=True)
class OfflineBudget:
    """`seconds`: how much prefill work an online request that comes next may find before it.

    `decodes`: sequences on a worker up to which offline ones are added. `tpot`: online classes' tightest.
    """

    seconds: float
    decodes: int
    tpot: float | None = None

    def admits(
        self,
        waiting: Waiting,
        choice: Choice,
        prediction: Prediction | None,
        capacity: Capacity,
        side: Iterable[str],
    ) -> bool:
        """Whether it may start on `choice`; `side` names the workers that compute the model's prompts."""
        if capacity.worker(choice.decode.name).decodes >= self.decodes:
            return False
        if prediction is not None and self.tpot is not None and prediction.tpot > self.tpot:
            return False
        name = (choice.prefill or choice.decode).name
        if capacity.worker(name).seconds + waiting.seconds <= self.seconds:
            return True
        # A prompt longer than the budget: only where another worker is left for whoever comes.
        others = [capacity.worker(other).prefills for other in side if other != name]
        return not capacity.worker(name).prefills and (not any(others) if len(others) < 2 else 0 in others)
