"""What one request did, noted while it runs and counted when it ends."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tandem_router.sse import Usage
from tandem_router.types import Choice


@dataclass(slots=True)
class Record:
    """Times are the clock's, in seconds; None where it did not come to that.

    `cached_tokens` is what the prefill worker says of the prompt, `limits` what headers say of the caller's.
    `queued` is the time in the queue, `refusal` why the queue did not take it.
    `model` is one of the known models or "unknown", so that clients cannot make label values.
    """

    received: float
    model: str = "unknown"
    stream: bool = False
    code: int = 0
    choice: Choice | None = None
    prefill_name: str | None = None
    decode_name: str | None = None
    prefilled: float | None = None
    prefill_seconds: float | None = None
    first_token: float | None = None
    last_token: float | None = None
    usage: Usage | None = None
    stream_error: str | None = None
    service_class: str = "default"
    queued: float = 0.0
    refusal: str | None = None
    cached_tokens: int | None = None
    limits: Mapping[str, str] = field(default_factory=dict)

    @property
    def handed_cached_tokens(self) -> int | None:
        """Cached tokens of a prompt that was handed over; None where the answering worker knows itself."""
        return self.cached_tokens if self.prefill_name else None

    @property
    def ttft(self) -> float | None:
        """Only a stream shows its first token."""
        return self.first_token - self.received if self.stream and self.first_token is not None else None

    @property
    def pace(self) -> float | None:
        """Mean seconds per output token after the first of a stream."""
        if self.first_token is None or self.last_token is None or self.usage is None or not self.stream:
            return None
        tokens = self.usage.output_tokens - 1
        return (self.last_token - self.first_token) / tokens if tokens > 0 else None

    @property
    def handover_seconds(self) -> float | None:
        if self.prefilled is None or self.first_token is None or not self.stream:
            return None
        return self.first_token - self.prefilled

    @property
    def failed(self) -> bool:
        """The service failed the client: refused for want of capacity, answered 5xx or broke a stream off."""
        return self.code >= 500 or self.code == 429 or self.stream_error is not None
