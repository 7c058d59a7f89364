"""Engines by the name that workers carry (label `tandemserve.dev/engine`)."""

from collections.abc import Mapping

from tandem_router.engines.base import Engine
from tandem_router.engines.native import Native
from tandem_router.engines.sglang import Sglang
from tandem_router.engines.trtllm import Trtllm
from tandem_router.engines.vllm import Vllm
from tandem_router.engines.vllm_mooncake import VllmMooncake
from tandem_router.engines.vllm_push import VllmPush


def engines(*, trtllm_auth_key: str | None = None) -> Mapping[str, Engine]:
    """All strategies, with the secrets that they need."""
    return {
        "native": Native(),
        "vllm": Vllm(),
        "vllm-push": VllmPush(),
        "vllm-mooncake": VllmMooncake(),
        "sglang": Sglang(),
        "trtllm": Trtllm(trtllm_auth_key),
    }


ENGINES = engines()
