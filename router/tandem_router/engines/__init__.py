"""Engines by the name that workers carry (label `tandemserve.dev/engine`)."""

from tandem_router.engines.base import Engine
from tandem_router.engines.native import Native
from tandem_router.engines.vllm import Vllm

ENGINES: dict[str, Engine] = {"native": Native(), "vllm": Vllm()}
