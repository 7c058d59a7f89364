"""The images that the operator runs where a resource names none."""

from dataclasses import dataclass
from importlib.metadata import version

from tandem_operator.api import EngineType

DISTRIBUTION = "tandem-serve"


@dataclass(frozen=True, slots=True)
class Images:
    """One image a component. Other engines' are upstream's; ours carry the operator's own version."""

    router: str = f"tandem-router:{version(DISTRIBUTION)}"
    native: str = f"tandem-worker:{version(DISTRIBUTION)}"
    vllm: str = "vllm/vllm-openai:v0.32.0"
    sglang: str = "lmsysorg/sglang:v0.5.6"
    trtllm: str = "nvcr.io/nvidia/tensorrt-llm/release:1.2.0"

    def engine(self, kind: EngineType) -> str:
        """The image of a worker that runs this engine."""
        return {"native": self.native, "vllm": self.vllm, "sglang": self.sglang, "trtllm": self.trtllm}[kind]


DEFAULT_IMAGES = Images()
