"""What a simulated engine says at /metrics, under the names of the engine that it stands for. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tandem_sim.engines.settings import Protocol


@dataclass(frozen=True, slots=True)
class Gauges:
    """An engine's state; sizes in tokens."""

    running: int
    waiting: int
    kv_used: int
    kv_tokens: int
    block_size: int
    prompt_tokens: int
    output_tokens: int
    queried_tokens: int
    hit_tokens: int
    expired: int


def render(protocol: Protocol, model: str, gauges: Gauges) -> str:
    """Prometheus' text format."""
    share = gauges.kv_used / gauges.kv_tokens if gauges.kv_tokens else 0.0
    lines = {"sglang": _sglang, "trtllm": _trtllm}.get(protocol, _vllm)(model, gauges, share)
    return "".join(f"{line}\n" for line in lines)


def _vllm(model: str, gauges: Gauges, share: float) -> Iterator[str]:
    labels = f'{{engine="0",model_name="{model}"}}'
    values: Mapping[str, float] = {
        "num_requests_running": gauges.running,
        "num_requests_waiting": gauges.waiting,
        "kv_cache_usage_perc": share,
        "prefix_cache_queries_total": gauges.queried_tokens,
        "prefix_cache_hits_total": gauges.hit_tokens,
        "prompt_tokens_total": gauges.prompt_tokens,
        "generation_tokens_total": gauges.output_tokens,
        "nixl_num_kv_expired_reqs_total": gauges.expired,
    }
    yield from (f"vllm:{name}{labels} {value}" for name, value in values.items())
    blocks = gauges.kv_tokens // gauges.block_size
    yield (
        f'vllm:cache_config_info{{block_size="{gauges.block_size}",engine="0",'
        f'kv_cache_size_tokens="{gauges.kv_tokens}",num_gpu_blocks="{blocks}"}} 1.0'
    )
    yield ('vllm:lora_requests_info{max_lora="0",running_lora_adapters="",waiting_lora_adapters=""} 1.0')


def _sglang(model: str, gauges: Gauges, share: float) -> Iterator[str]:
    labels = f'{{model_name="{model}"}}'
    values: Mapping[str, float] = {
        "num_running_reqs": gauges.running,
        "num_queue_reqs": gauges.waiting,
        "token_usage": share,
        "num_used_tokens": gauges.kv_used,
        "max_total_num_tokens": gauges.kv_tokens,
        "cache_hit_rate": gauges.hit_tokens / gauges.queried_tokens if gauges.queried_tokens else 0.0,
        "prompt_tokens_total": gauges.prompt_tokens,
        "generation_tokens_total": gauges.output_tokens,
    }
    yield from (f"sglang:{name}{labels} {value}" for name, value in values.items())
    pages = gauges.kv_tokens // gauges.block_size
    yield f'sglang:cache_config_info{{num_pages="{pages}",page_size="{gauges.block_size}"}} 1.0'


def _trtllm(model: str, gauges: Gauges, share: float) -> Iterator[str]:
    labels = f'{{model_name="{model}"}}'
    values: Mapping[str, float] = {
        "num_requests_running": gauges.running,
        "num_requests_waiting": gauges.waiting,
        "kv_cache_utilization": share,
        "kv_cache_tokens_per_block": gauges.block_size,
        "kv_cache_max_blocks": gauges.kv_tokens // gauges.block_size,
    }
    yield from (f"trtllm_{name}{labels} {value}" for name, value in values.items())
