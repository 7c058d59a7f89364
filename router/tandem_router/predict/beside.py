"""What will run beside the next stream, as seconds of a decode step."""

from dataclasses import dataclass
from typing import NamedTuple

from tandem_perf.latency import DecodeModel
from tandem_perf.recursive import RecursiveFit
from tandem_router.predict.streams import Streams

_WEIGHT = 0.05
_PRIOR = (0.3, 0.2, 0.4, 0.1, 0.1)


class Signs(NamedTuple):
    """Seconds of a step that each of these would take: the streams here, those coming here, both on average
    over the workers of the kind, and what is usual here."""

    here: float
    coming: float
    here_anywhere: float
    coming_anywhere: float
    usual: float


@dataclass(slots=True)
class Usual:
    """Means over the last streams of what ran beside them: streams, and tokens of their contexts."""

    seen: int = 0
    streams: float = 0.0
    kv_tokens: float = 0.0

    def observe(self, streams: float, kv_tokens: float) -> None:
        self.seen += 1
        weight = max(_WEIGHT, 1 / self.seen)
        self.streams += weight * (streams - self.streams)
        self.kv_tokens += weight * (kv_tokens - self.kv_tokens)


class Outlook:
    """How far each sign tells what will be: streams end, others come, and routers even them out."""

    def __init__(self) -> None:
        self._fit = RecursiveFit(_PRIOR, doubt=0.5)

    def seconds(self, signs: Signs) -> float:
        """Of a decode step, what the others will take of it."""
        return self._fit.predict(signs)

    def observe(self, signs: Signs, alone: float, seconds: float) -> None:
        """With these signs before it, a stream that alone would take `alone` a step took `seconds`."""
        self._fit.observe(signs, seconds, alone)


def signs(
    model: DecodeModel, here: Streams, anywhere: Streams, workers: int, usual: Usual, now: float
) -> Signs:
    """`anywhere` has the streams of all `workers` of the kind."""
    share = 1 / max(1, workers)
    return Signs(
        model.b * here.batch + model.c * here.kv_tokens(now),
        model.b * here.coming + model.c * here.coming_tokens,
        share * (model.b * anywhere.batch + model.c * anywhere.kv_tokens(now)),
        share * (model.b * anywhere.coming + model.c * anywhere.coming_tokens),
        model.b * usual.streams + model.c * usual.kv_tokens,
    )
