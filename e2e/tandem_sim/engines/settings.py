"""What a fake engine is and how fast."""

from dataclasses import dataclass
from typing import Literal

Role = Literal["prefill", "decode", "mixed"]
Flavour = Literal["vllm", "native"]
LoadFailurePolicy = Literal["fail", "recompute"]


@dataclass(frozen=True, slots=True)
class Settings:
    """Times in seconds. `hands_over` False: no KV connector, so prefill answers carry no params.

    `on_load_failure` is vLLM's kv_load_failure_policy.
    """

    role: Role = "mixed"
    flavour: Flavour = "vllm"
    model: str = "fake"
    host: str = "127.0.0.1"
    port: int = 0
    prefill_seconds: float = 0.0
    token_seconds: float = 0.0
    tokens_per_event: int = 1
    lease_seconds: float = 30.0
    max_model_len: int = 4096
    hands_over: bool = True
    on_load_failure: LoadFailurePolicy = "fail"
