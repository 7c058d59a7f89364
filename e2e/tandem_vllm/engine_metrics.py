"""What an engine says of itself on /metrics."""

from dataclasses import dataclass
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class EngineMetrics:
    """Counts since the engine's start; `kv_usage` is the share of the KV cache in use now."""

    prompt_tokens: float
    pulled_bytes: float
    pulled_tokens: float
    failed_pulls: float
    expired_leases: float
    running: float
    waiting: float
    kv_usage: float

    @property
    def waits_for_pull(self) -> bool:
        """Every prompt is computed, and KV is kept for somebody."""
        return self.running == 0 and self.waiting == 0 and self.kv_usage > 0

    @property
    def idle(self) -> bool:
        """Nothing runs, nothing waits, and no KV is held for anybody."""
        return self.running == 0 and self.waiting == 0 and self.kv_usage == 0


def read(url: str) -> EngineMetrics:
    """Scrape the engine at that base URL."""
    with urlopen(f"{url}/metrics", timeout=TIMEOUT) as answer:
        text = answer.read().decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def total(name: str, **labels: str) -> float:
        return sum(
            s.value for s in samples if s.name == f"vllm:{name}" and labels.items() <= s.labels.items()
        )

    return EngineMetrics(
        prompt_tokens=total("prompt_tokens_total"),
        pulled_bytes=total("nixl_bytes_transferred_sum"),
        pulled_tokens=total("prompt_tokens_by_source_total", source="external_kv_transfer"),
        failed_pulls=total("nixl_num_failed_transfers_total"),
        expired_leases=total("nixl_num_kv_expired_reqs_total"),
        running=total("num_requests_running"),
        waiting=total("num_requests_waiting"),
        kv_usage=total("kv_cache_usage_perc"),
    )
