"""Fairness across tenants by a virtual token counter: who was served least goes first.

Sheng et al., "Fairness in Serving Large Language Models" (OSDI 2024).
"""

from collections import Counter
from dataclasses import dataclass
from math import inf

MAX_TENANTS = 65_536


@dataclass(frozen=True, slots=True)
class TokenWeights:
    """What a token of each kind costs a tenant."""

    prompt: float = 1.0
    output: float = 2.0


class TenantCounters:
    """Weighted tokens served, per tenant. Being away gives no credit: who comes back is lifted."""

    def __init__(self, weights: TokenWeights) -> None:
        self._weights = weights
        self._served: dict[str, float] = {}
        self._waiting: Counter[str] = Counter()
        self._floor = 0.0

    def arrived(self, tenant: str) -> None:
        """One more request of the tenant waits."""
        if not self._waiting[tenant]:
            self._lift(tenant)
        self._waiting[tenant] += 1

    def left(self, tenant: str) -> None:
        """One request less of it waits."""
        self._waiting[tenant] -= 1
        if not self._waiting[tenant]:
            del self._waiting[tenant]
            self._floor = max(self._floor, self._served[tenant])

    def charge(self, tenant: str, prompt_tokens: int, output_tokens: int) -> None:
        """Tokens that are served to it; negative ones correct an estimate."""
        cost = self._weights.prompt * prompt_tokens + self._weights.output * output_tokens
        self._served[tenant] = self._served.get(tenant, 0.0) + cost
        if len(self._served) > MAX_TENANTS:
            self._forget()

    def served(self, tenant: str) -> float:
        return self._served.get(tenant, 0.0)

    def _lift(self, tenant: str) -> None:
        least = min((self._served[other] for other in self._waiting), default=self._floor)
        self._served[tenant] = max(self._served.get(tenant, -inf), least)

    def _forget(self) -> None:
        """Drops the half of the idle tenants that was served least: the lift makes up for it."""
        idle = sorted((t for t in self._served if t not in self._waiting), key=self.served)
        for tenant in idle[: max(1, len(idle) // 2)]:
            del self._served[tenant]
