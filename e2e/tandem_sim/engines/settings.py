"""What a simulated engine is, how fast, and how much it takes on."""

from dataclasses import dataclass
from typing import Literal

from tandem_perf.latency import LatencyModel

Role = Literal["prefill", "decode", "mixed"]
Protocol = Literal["nixl", "nixl-push", "mooncake", "sglang", "trtllm", "native"]
LoadFailurePolicy = Literal["fail", "recompute"]
EventFormat = Literal["none", "array", "map"]


@dataclass(frozen=True, slots=True)
class Settings:
    """Times in seconds, sizes in tokens; 0 means no limit, and port 0 any free one.

    `latency` replaces the fixed `prefill_seconds` and `token_seconds`. `hands_over` False: no KV connector,
    so prefill answers carry no params. `on_load_failure` is vLLM's kv_load_failure_policy. `wait_seconds`
    is how long a leg waits for its partner. `max_waiting` requests beyond `max_running` wait; more are
    refused as busy. `ranks` are data parallel. `auth_key` is TensorRT-LLM's internal_request_auth_key.
    """

    role: Role = "mixed"
    protocol: Protocol = "nixl"
    model: str = "fake"
    host: str = "127.0.0.1"
    port: int = 0
    bootstrap_port: int = 0
    kv_port: int = 0
    prefill_seconds: float = 0.0
    token_seconds: float = 0.0
    tokens_per_event: int = 1
    latency: LatencyModel | None = None
    kv_bytes_per_token: int = 131_072
    link_seconds: float = 0.0
    slow_seconds: float = 1.0
    start_seconds: float = 0.0
    lease_seconds: float = 30.0
    wait_seconds: float = 300.0
    max_model_len: int = 1_000_000
    max_running: int = 0
    max_waiting: int | None = None
    kv_tokens: int = 0
    block_size: int = 16
    prefix_cache: bool = False
    events: EventFormat = "none"
    events_port: int = 0
    replay_port: int = 0
    events_topic: str = ""
    ranks: int = 1
    hands_over: bool = True
    on_load_failure: LoadFailurePolicy = "fail"
    auth_key: str = ""
