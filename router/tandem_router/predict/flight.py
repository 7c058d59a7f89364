"""One request as it goes through its workers: kept account of, measured, and learned from."""

from typing import TYPE_CHECKING

from tandem_router.predict.prompts import Ticket
from tandem_router.predict.question import Prompt, Tokens
from tandem_router.predict.streams import Decoded, Stream
from tandem_router.predict.worker import Worker
from tandem_router.types import Prediction, RequestInfo

if TYPE_CHECKING:
    from tandem_router.predict.forecaster import Forecaster

_TOKENS_TO_TELL = 4
"""A stream of fewer tokens says little of the time per token."""


class Flight:
    """One attempt: `prefilled`, `first_token`, `ended`, in this order, or `dropped` at any moment.

    Clock times in seconds. `prefill` None: both phases on `decode`.
    """

    __slots__ = (
        "_began",
        "_book",
        "_chosen",
        "_decode",
        "_first",
        "_matched",
        "_prefill",
        "_prefilled",
        "_prompt",
        "_signs",
        "_step",
        "_stream",
        "_ticket",
        "prediction",
        "request",
    )

    def __init__(
        self,
        book: "Forecaster",
        request: RequestInfo,
        prefill: Worker | None,
        decode: Worker,
        prompt: Prompt,
        tokens: Tokens,
        matched: int,
        prediction: Prediction | None,
        now: float,
    ) -> None:
        self._book, self.request, self.prediction = book, request, prediction
        self._prefill, self._decode, self._prompt = prefill, decode, prompt
        self._matched, self._signs = matched, tokens.signs
        self._chosen, self._prefilled, self._first, self._step = now, 0.0, 0.0, 0.0
        self._ticket: Ticket | None = None
        self._stream: Stream | None = None
        self._began = False
        side = prefill or decode
        seconds = prompt.seconds
        if prefill is None and not request.stream:
            decode.prompts.hide(seconds, now)
            decode.stalled(seconds, now)
            self._stream = decode.begin(request.prompt_tokens, now)
            self._began = True
        else:
            self._ticket = Ticket(prompt.work, seconds, now)
            side.prompts.add(self._ticket)
            decode.expect(request.prompt_tokens)

    def prefilled(self, now: float) -> None:
        """The prefill worker has answered; the hand-over begins."""
        self._close_ticket(now)
        if self._first:
            return
        self._prefilled = now
        self._step = self._decode.step_now(now)
        if not self.request.stream and not self._began:
            self._begin(now)

    def first_token(self, now: float) -> None:
        """A stream's first token came. With both legs at once the prefill leg may not have been answered."""
        decode = self._decode
        self._first = now
        if self._prefilled:
            self._learn_transfer(now)
        elif self._prefill is None:
            decode.stalled(self._prompt.seconds, now)
        self._close_ticket(now)
        if self._stream is None:
            self._begin(now)
        if self.prediction is not None and decode.shared.due("ttft", now):
            errors = self._book.errors(self.request.model, "ttft")
            errors.observe(self.prediction.ttft, now - self._chosen)

    def ended(self, now: float, output_tokens: int | None = None) -> None:
        """The last token came, `output_tokens` in all as the engine counted, None if it did not say."""
        stream, self._stream = self._stream, None
        if stream is None:
            self.dropped(now)
            return
        seen = self._decode.end(stream, now)
        if output_tokens is None:
            return
        shared = self._decode.shared
        if shared.due("length", now):
            self._book.lengths.observe(self.request, output_tokens)
        if seen is None or not self._first or output_tokens < _TOKENS_TO_TELL:
            return
        gaps = output_tokens - 1
        self._learn(seen, max(0.0, now - self._first - seen.stalled) / gaps, now)
        if self.prediction is not None and shared.due("tpot", now):
            errors = self._book.errors(self.request.model, "tpot")
            errors.observe(self.prediction.tpot, (now - self._first) / gaps)

    def counted(self, prompt_tokens: int, cached_tokens: int | None) -> None:
        """What the engine says of the prompt; None where it does not tell what was cached."""
        request = self.request
        if request.prompt_bytes:
            self._book.tokens.observe(request.model, request.prompt_bytes, prompt_tokens)
        if cached_tokens is None:
            return
        self._book.hits(self.request.model).observe(
            prompt_tokens, min(self._prompt.matched, prompt_tokens), cached_tokens
        )

    def dropped(self, now: float) -> None:
        """The attempt failed, or the client left."""
        if self._ticket is not None:
            (self._prefill or self._decode).prompts.drop(self._ticket, now)
            self._ticket = None
        if self._stream is not None:
            self._decode.end(self._stream, now)
            self._stream = None
        elif not self._began:
            self._decode.expect(self.request.prompt_tokens, -1)
            self._began = True

    def _begin(self, now: float) -> None:
        tokens = self.request.prompt_tokens
        self._decode.expect(tokens, -1)
        self._stream, self._began = self._decode.begin(tokens, now), True

    def _close_ticket(self, now: float) -> None:
        worker = self._prefill or self._decode
        ticket, self._ticket = self._ticket, None
        if ticket is not None and (sample := worker.prompts.done(ticket, now)) is not None:
            worker.learn_prefill(sample, now)

    def _learn(self, seen: Decoded, seconds: float, now: float) -> None:
        """The stream had `seconds` a token, without what prompts took."""
        decode = self._decode
        own = self.request.prompt_tokens + self._book.lengths.expected(self.request).mean / 2
        decode.usual.observe(max(0.0, seen.batch - 1), max(0.0, seen.kv_tokens - own))
        if decode.learn_step(seen, seconds, now):
            decode.shared.outlook.observe(self._signs, decode.step_seconds(1, own), seconds)

    def _learn_transfer(self, now: float) -> None:
        shared, seconds = self._decode.shared, now - self._prefilled
        if seconds > 0 and shared.due("transfer", now):
            tokens = self.request.prompt_tokens - self._matched
            shared.latency.transferred(tokens * shared.kv_bytes_per_token, seconds, self._step)
