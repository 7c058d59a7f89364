"""A latency model that is corrected by each measured phase."""

import math

from tandem_perf.latency import Chunk, DecodeModel, LatencyModel, PrefillModel, TransferModel
from tandem_perf.recursive import RecursiveFit

SEED_DOUBT = 1.0
"""A profile is of like hardware, without the engine's overhead: about right."""
LINK_DOUBT = 20.0
"""The link between workers is in no profile of a GPU."""
GUESS = LatencyModel(
    PrefillModel(0.005, 5e-5, 3e-9), DecodeModel(0.01, 3e-5, 5e-8), TransferModel(0.002, 5e9)
)
GUESS_DOUBT = 20.0
KNOWN_SAMPLES = 8
"""From here on a model without a profile is worth listening to."""
_LEAST = 1e-12


class OnlineLatency:
    """The latency of one kind of worker: from a profile, or from a guess that the first samples replace."""

    def __init__(self, seed: LatencyModel | None = None) -> None:
        model, doubt = (GUESS, GUESS_DOUBT) if seed is None else (seed, SEED_DOUBT)
        self._seeded = seed is not None
        self._prefill = _fit((model.prefill.a, model.prefill.b, model.prefill.c), doubt)
        self._decode = _fit((model.decode.a, model.decode.b, model.decode.c), doubt)
        self._transfer = _fit((model.transfer.a, 1 / model.transfer.bandwidth), max(doubt, LINK_DOUBT))
        self.model = model

    @property
    def prefill_known(self) -> bool:
        return self._seeded or self._prefill.samples >= KNOWN_SAMPLES

    @property
    def decode_known(self) -> bool:
        return self._seeded or self._decode.samples >= KNOWN_SAMPLES

    @property
    def transfer_known(self) -> bool:
        return self._seeded or self._transfer.samples >= KNOWN_SAMPLES

    def prefilled(self, steps: float, new_tokens: float, attended_tokens: float, seconds: float) -> None:
        """`steps` prefill steps took `seconds` in all; `attended_tokens` as in `Chunk`."""
        self._prefill.observe((steps, new_tokens, attended_tokens), seconds)
        self.model = LatencyModel(
            PrefillModel(*self._prefill.coefficients), self.model.decode, self.model.transfer
        )

    def decoded(self, batch: float, kv_tokens: float, seconds: float) -> None:
        """A decode step over `batch` sequences with `kv_tokens` in all took `seconds`, both on average."""
        self._decode.observe((1.0, batch, kv_tokens), seconds)
        self.model = LatencyModel(
            self.model.prefill, DecodeModel(*self._decode.coefficients), self.model.transfer
        )

    def transferred(self, num_bytes: float, seconds: float, known: float = 0.0) -> None:
        """A hand-over of `num_bytes` took `seconds`, `known` of them for something else (the first step)."""
        self._transfer.observe((1.0, num_bytes), seconds, known)
        a, per_byte = self._transfer.coefficients
        transfer = TransferModel(a, 1 / per_byte if per_byte > 0 else math.inf)
        self.model = LatencyModel(self.model.prefill, self.model.decode, transfer)


def chunk_row(chunk: Chunk) -> tuple[float, float]:
    """New and attended tokens, as `OnlineLatency.prefilled` wants them."""
    return float(chunk.new_tokens), chunk.attended_tokens


def _fit(prior: tuple[float, ...], doubt: float) -> RecursiveFit:
    return RecursiveFit([max(value, _LEAST) for value in prior], doubt=doubt)
