"""What each engine cannot do over a hand-over, though one of its workers alone can. Data.

Seen in the engines' code and issues: most hand KV over for one sequence (n, batched prompts, best_of, beam
search), and a decode worker computes no logits for a prompt whose KV it pulled (prompt_logprobs, echo with
logprobs).
"""

from collections.abc import Iterable

from tandem_router.features import Feature

_ONE_SEQUENCE = frozenset(
    {
        Feature.EMBEDDINGS,
        Feature.N,
        Feature.BEST_OF,
        Feature.BEAM_SEARCH,
        Feature.BATCH,
        Feature.ECHO_LOGPROBS,
        Feature.PROMPT_LOGPROBS,
        Feature.SUFFIX,
        Feature.NO_TOKENS,
    }
)
LOCAL_ONLY: dict[str, frozenset[Feature]] = {
    "native": _ONE_SEQUENCE,
    "vllm": _ONE_SEQUENCE,
    "sglang": _ONE_SEQUENCE - {Feature.N, Feature.BATCH},
    "trtllm": _ONE_SEQUENCE | {Feature.ECHO},
}
ADAPTER_FIELD = {"vllm": "model", "sglang": "lora_path"}
"""Where an engine looks for the name of a LoRA adapter; others take none by name."""
HANDOVER_ONLY = frozenset({"sglang"})
"""Engines whose decode workers answer a request without a prefill worker with an error."""


def kind_of(engine: str) -> str:
    """The engine without its connector: vllm of vllm-mooncake."""
    return engine.partition("-")[0]


def why_local(engines: Iterable[str], features: frozenset[Feature]) -> str:
    """The feature for which a request must stay on one worker of these engines; empty if it need not."""
    if not features:
        return ""
    for engine in engines:
        kept = LOCAL_ONLY.get(kind_of(engine), _ONE_SEQUENCE) & features
        if kept:
            return min(kept)
    return ""
