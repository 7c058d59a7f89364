"""Questions to a Prometheus."""

import json
import math
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A Prometheus server, by its base URL."""

    url: str

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=TIMEOUT) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def targets(self) -> dict[str, str]:
        """Scrape URL -> health (up, down, unknown)."""
        active = self._ask("targets", {"state": "active"})["activeTargets"]
        return {target["scrapeUrl"]: target["health"] for target in active}

    def value(self, query: str) -> float | None:
        """The sum over what an instant query returns; None when it returns nothing."""
        result = self._ask("query", {"query": query})["result"]
        return sum(float(series["value"][1]) for series in result) if result else None

    def samples(self, query: str, since: float, step: float = 2.0) -> int:
        """How many numbers (NaN is none) a range query from Unix time `since` until now returns."""
        window = {"start": str(since), "end": str(time.time()), "step": str(step)}
        result = self._ask("query_range", {"query": query, **window})["result"]
        return sum(not math.isnan(float(value)) for series in result for _, value in series["values"])

    def _ask(self, endpoint: str, parameters: dict[str, str]) -> Any:
        url = f"{self.url}/api/v1/{endpoint}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"Prometheus refused {parameters}: {error.read().decode()}") from error
