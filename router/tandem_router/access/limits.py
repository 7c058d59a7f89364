"""What each key may still ask for, by its buckets. Pure: the time is an argument."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tandem_router.access.bucket import Bucket, new_bucket
from tandem_router.access.keys import Key
from tandem_router.errors import rate_limited

_NONE: Mapping[str, str] = {}


@dataclass(slots=True)
class _Buckets:
    key: Key
    requests: Bucket | None
    tokens: Bucket | None


class Limits:
    """Buckets of all keys that have limits; each router process counts for itself."""

    def __init__(self) -> None:
        self._buckets: dict[bytes, _Buckets] = {}

    def admit(self, key: Key, prompt_tokens: int, now: float) -> Mapping[str, str]:
        """Counts a request; gives the headers that say what is left. Raises ApiError (429)."""
        buckets = self._of(key, now)
        if buckets is None:
            return _NONE
        for name, bucket, amount in self._wanted(buckets, prompt_tokens):
            if (wait := bucket.wait(amount, now)) > 0:
                headers = _headers(buckets, now)
                raise rate_limited(name, round(bucket.capacity), math.ceil(wait), headers)
        for _, bucket, amount in self._wanted(buckets, prompt_tokens):
            bucket.take(amount, now)
        return _headers(buckets, now)

    def settle(self, key: Key, prompt_tokens: int, used_tokens: int, now: float) -> None:
        """Counts what a request took in the end instead of what it was thought to."""
        buckets = self._of(key, now)
        if buckets is not None and buckets.tokens is not None:
            buckets.tokens.take(used_tokens - prompt_tokens, now)

    def _of(self, key: Key, now: float) -> _Buckets | None:
        if key.requests_per_minute is None and key.tokens_per_minute is None:
            return None
        buckets = self._buckets.get(key.digest)
        if buckets is None or buckets.key != key:
            requests, tokens = key.requests_per_minute, key.tokens_per_minute
            buckets = _Buckets(
                key,
                new_bucket(requests, now) if requests else None,
                new_bucket(tokens, now) if tokens else None,
            )
            self._buckets[key.digest] = buckets
        return buckets

    @staticmethod
    def _wanted(buckets: _Buckets, prompt_tokens: int) -> list[tuple[str, Bucket, float]]:
        wanted = (("requests", buckets.requests, 1), ("tokens", buckets.tokens, prompt_tokens))
        return [(name, bucket, amount) for name, bucket, amount in wanted if bucket is not None]


def _headers(buckets: _Buckets, now: float) -> Mapping[str, str]:
    headers = {}
    for name, bucket in (("requests", buckets.requests), ("tokens", buckets.tokens)):
        if bucket is not None:
            headers[f"x-ratelimit-limit-{name}"] = str(round(bucket.capacity))
            headers[f"x-ratelimit-remaining-{name}"] = str(max(0, math.floor(bucket.refill(now))))
            headers[f"x-ratelimit-reset-{name}"] = f"{bucket.until_full(now):.3f}s"
    return headers
