"""Tokens before an engine has counted them: of a prompt by its bytes, of a cache hit by what is expected."""

from tandem_perf.recursive import RecursiveFit

PER_BYTE = 0.25
"""A usual value for English and byte-pair vocabularies."""
_TEMPLATE = 5.0
_ENOUGH = 200
_THEN_EVERY = 16
_WEIGHT = 0.05


class TokenEstimates:
    """Prompt tokens of a request body, by model: a chat template's own, and so many a byte."""

    def __init__(self) -> None:
        self._fits: dict[str, RecursiveFit] = {}
        self._seen: dict[str, int] = {}

    def estimate(self, model: str, num_bytes: int) -> int | None:
        """None while nothing is known of the model."""
        fit = self._fits.get(model)
        return None if fit is None else max(1, round(fit.predict((1.0, num_bytes))))

    def observe(self, model: str, num_bytes: int, tokens: int) -> None:
        """An engine counted `tokens` in the prompt of such a body. Of many, some are enough."""
        seen = self._seen[model] = self._seen.get(model, 0) + 1
        if tokens <= 0 or (seen > _ENOUGH and seen % _THEN_EVERY):
            return
        fit = self._fits.get(model)
        if fit is None:
            fit = self._fits[model] = RecursiveFit((_TEMPLATE, PER_BYTE), doubt=2.0)
        fit.observe((1.0, num_bytes), tokens)


class HitRates:
    """How much of a prompt is found cached: the share of what was expected, and of the rest."""

    def __init__(self) -> None:
        self.of_expected = 1.0
        self.of_rest = 0.0

    def cached(self, prompt_tokens: int, expected: int) -> int:
        """Tokens that need no computing, of `expected` ones; at least one token is always computed."""
        likely = self.of_expected * expected + self.of_rest * (prompt_tokens - expected)
        return max(0, min(prompt_tokens - 1, round(likely)))

    def observe(self, prompt_tokens: int, expected: int, cached: int) -> None:
        """An engine found `cached` tokens where `expected` were."""
        found = min(cached, expected)
        if expected:
            self.of_expected += _WEIGHT * (found / expected - self.of_expected)
        if prompt_tokens > expected:
            rest = min(1.0, (cached - found) / (prompt_tokens - expected))
            self.of_rest += _WEIGHT * (rest - self.of_rest)
