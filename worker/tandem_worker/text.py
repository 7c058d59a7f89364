"""An engine's tokens as text: detokenised, cut at stop strings, with their log-probabilities. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from tandem_worker.detokenizer import Decoder, Detokenizer
from tandem_worker.request import FinishReason, StepOutput, TokenLogprobs
from tandem_worker.stop_strings import StopStrings

CONTEXT_TOKENS = 5  # how far back the reading of a token may depend on earlier ones


@dataclass(frozen=True, slots=True)
class Delta:
    """What one token adds to the answer. `stop`: the string or token id that ended it; None: end of sequence.

    `num_output_tokens`: tokens generated so far, this one included.
    """

    text: str
    token_id: int
    logprobs: TokenLogprobs | None
    num_output_tokens: int
    num_cached_tokens: int
    finish_reason: FinishReason | None = None
    stop: str | int | None = None


class TextAssembler:
    """Feed it every output of one request, in order, until a delta carries a finish reason."""

    def __init__(
        self,
        decoder: Decoder,
        prompt: Sequence[int],
        stop_strings: Sequence[str],
        eos_token_ids: frozenset[int],
    ) -> None:
        self._detokenizer = Detokenizer(decoder, prompt[-CONTEXT_TOKENS:])
        self._stops = StopStrings(stop_strings)
        self._eos_token_ids = eos_token_ids
        self._num_output_tokens = 0

    def replay(self, token_ids: Sequence[int]) -> None:
        """Takes in the first tokens of an answer that another worker began and has said the text of."""
        for token_id in token_ids:
            self._stops.push(self._detokenizer.push(token_id))
        self._num_output_tokens += len(token_ids)

    def push(self, output: StepOutput) -> Delta:
        self._num_output_tokens += 1
        stopped_by_token = output.finish_reason is FinishReason.STOP
        piece = "" if stopped_by_token else self._detokenizer.push(output.token_id)
        if output.finish_reason is not None:
            piece += self._detokenizer.flush()
        match = self._stops.push(piece)
        if match.stop is not None:
            return self._delta(output, match.text, FinishReason.STOP, match.stop)
        if output.finish_reason is None:
            return self._delta(output, match.text, None, None)
        stop = output.token_id if stopped_by_token and output.token_id not in self._eos_token_ids else None
        return self._delta(output, match.text + self._stops.flush(), output.finish_reason, stop)

    def _delta(
        self, output: StepOutput, text: str, finish_reason: FinishReason | None, stop: str | int | None
    ) -> Delta:
        return Delta(
            text,
            output.token_id,
            output.logprobs,
            self._num_output_tokens,
            output.num_cached_tokens,
            finish_reason,
            stop,
        )
