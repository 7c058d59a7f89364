"""How long answers get, by class and length of prompt: quantiles of what was seen."""

from bisect import insort
from collections import deque
from dataclasses import dataclass, field

KEPT = 64
FIRST_GUESS = 256
MAX_GROUPS = 1024


@dataclass(slots=True)
class _Group:
    recent: deque[int] = field(default_factory=deque)
    ordered: list[int] = field(default_factory=list)

    def add(self, tokens: int) -> None:
        self.recent.append(tokens)
        insort(self.ordered, tokens)
        if len(self.recent) > KEPT:
            self.ordered.remove(self.recent.popleft())


class Lengths:
    """Output tokens to expect. A group is a class and a power of two of prompt tokens."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, int], _Group] = {}

    def learn(self, service_class: str, prompt_tokens: int, output_tokens: int) -> None:
        key = (service_class, prompt_tokens.bit_length())
        group = self._groups.get(key)
        if group is None:
            if len(self._groups) >= MAX_GROUPS:
                return
            group = self._groups[key] = _Group()
        group.add(output_tokens)

    def expect(
        self, service_class: str, prompt_tokens: int, max_tokens: int | None, quantile: float = 0.5
    ) -> int:
        """The length that a share `quantile` of the group's answers does not exceed."""
        group = self._groups.get((service_class, prompt_tokens.bit_length()))
        tokens = FIRST_GUESS
        if group is not None:
            tokens = group.ordered[min(len(group.ordered) - 1, int(quantile * len(group.ordered)))]
        return tokens if max_tokens is None else min(tokens, max_tokens)
