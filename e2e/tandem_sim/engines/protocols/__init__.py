"""Hand-over protocols by name, as a simulated engine keeps them."""

from collections.abc import Mapping

from tandem_sim.engines.protocols.base import HandOver
from tandem_sim.engines.protocols.mooncake import Mooncake
from tandem_sim.engines.protocols.native import Native
from tandem_sim.engines.protocols.nixl import Nixl
from tandem_sim.engines.protocols.nixl_push import NixlPush
from tandem_sim.engines.protocols.sglang import Sglang
from tandem_sim.engines.protocols.trtllm import Trtllm

PROTOCOLS: Mapping[str, type[HandOver]] = {
    "nixl": Nixl,
    "nixl-push": NixlPush,
    "mooncake": Mooncake,
    "sglang": Sglang,
    "trtllm": Trtllm,
    "native": Native,
}
