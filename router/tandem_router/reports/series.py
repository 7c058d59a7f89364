"""An engine's /metrics, as text, to a report. Pure. The names are data; the first that is there counts."""

from collections import defaultdict
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tandem_router.types import Report


@dataclass(frozen=True, slots=True)
class Series:
    """`blocks`: a gauge with the labels (tokens in a block, number of blocks); `capacity`: KV tokens."""

    running: tuple[str, ...]
    waiting: tuple[str, ...]
    kv_used: tuple[str, ...]
    backlog: tuple[str, ...] = ()
    capacity: tuple[str, ...] = ()
    blocks: tuple[str, tuple[str, str]] = ("", ("", ""))
    adapters: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        everything = (*self.running, *self.waiting, *self.kv_used, *self.backlog, *self.capacity)
        return tuple(name for name in (*everything, self.blocks[0], self.adapters) if name)


_VLLM = Series(
    running=("vllm:num_requests_running",),
    waiting=("vllm:num_requests_waiting",),
    kv_used=("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
    blocks=("vllm:cache_config_info", ("block_size", "num_gpu_blocks")),
    adapters="vllm:lora_requests_info",
)
SERIES: dict[str, Series] = {
    "vllm": _VLLM,
    "sglang": Series(
        running=("sglang:num_running_reqs",),
        waiting=("sglang:num_queue_reqs",),
        kv_used=("sglang:token_usage",),
        capacity=("sglang:max_total_num_tokens",),
        blocks=("sglang:cache_config_info", ("page_size", "num_pages")),
    ),
    "trtllm": Series(
        running=("trtllm_num_requests_running",),
        waiting=("trtllm_num_requests_waiting",),
        kv_used=("trtllm_kv_cache_utilization",),
    ),
    "native": Series(
        running=("tandem_worker_requests_running",),
        waiting=("tandem_worker_requests_waiting",),
        kv_used=("tandem_worker_kv_usage_ratio",),
        backlog=("tandem_worker_prefill_backlog_tokens",),
    ),
}


def series_of(engine: str) -> Series | None:
    """By the engine's name, of which connectors are variants (`vllm-push`); None for one without metrics."""
    return SERIES.get(engine.partition("-")[0])


def read_metrics(series: Series, body: bytes) -> Report | None:
    """None if the text does not tell what runs and waits. Raises ValueError for what is no exposition."""
    # Histograms make most of the text, and the parser is slow: it only gets the lines that count.
    names = tuple(name.encode() for name in series.names)
    lines = b"\n".join(line for line in body.split(b"\n") if line.startswith(names)).decode()
    found: dict[str, list[Sample]] = defaultdict(list)
    for family in text_string_to_metric_families(lines + "\n"):
        for sample in family.samples:
            found[sample.name].append(sample)
    running, waiting = _first(found, series.running), _first(found, series.waiting)
    if running is None or waiting is None:
        return None
    kv_used, backlog = _first(found, series.kv_used), _first(found, series.backlog)
    ranks = max(1, len(found[series.running[0]]))
    return Report(
        running=int(running),
        waiting=int(waiting),
        backlog_tokens=None if backlog is None else int(backlog),
        kv_used=None if kv_used is None else kv_used / ranks,
        kv_tokens=_capacity(series, found),
        adapters=_adapters(found.get(series.adapters, [])),
    )


def _first(found: dict[str, list[Sample]], names: tuple[str, ...]) -> float | None:
    """The sum over data parallel ranks."""
    for name in names:
        if found.get(name):
            return sum(sample.value for sample in found[name])
    return None


def _capacity(series: Series, found: dict[str, list[Sample]]) -> int | None:
    whole = _first(found, series.capacity)
    if whole is not None:
        return int(whole)
    name, (size, number) = series.blocks
    try:
        return sum(int(s.labels[size]) * int(s.labels[number]) for s in found.get(name, [])) or None
    except (KeyError, ValueError):
        return None


def _adapters(samples: list[Sample]) -> frozenset[str] | None:
    """vLLM leaves old samples behind; a sample's value is its time."""
    if not samples:
        return None
    newest = max(samples, key=lambda sample: sample.value)
    named = (newest.labels.get(f"{state}_lora_adapters", "") for state in ("running", "waiting"))
    return frozenset(name for names in named for name in names.split(",") if name)
