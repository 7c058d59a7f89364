"""vLLM's MooncakeConnector: both legs at once, the decode worker fetches as soon as the KV is there.

Source: .../v1/mooncake/mooncake_connector.py and mooncake_utils.py (the bootstrap server's `/query`). A
prefill worker's engine ids are new in each of its runs, one for every data parallel rank.
"""

from collections.abc import Mapping
from typing import Any

from tandem_router.engines.base import PARAMS, Pairing, PrefillAnswer, Prepared, Probe, with_usage
from tandem_router.engines.vllm import Vllm
from tandem_router.engines.vllm_push import transfer_id, until_length
from tandem_router.json_body import JsonBody
from tandem_router.types import Endpoint

BOOTSTRAP_PORT = 8998
"""VLLM_MOONCAKE_BOOTSTRAP_PORT."""
_RANK_HEADER = "x-data-parallel-rank"


class VllmMooncake(Vllm):
    def prepare_prefill(self, body: JsonBody, pairing: Pairing) -> Prepared:
        ask = {"do_remote_decode": True, "do_remote_prefill": False, "transfer_id": transfer_id(pairing)}
        rank, _ = _rank(pairing)
        return Prepared(until_length(body).with_values({PARAMS: ask}).encode(), {_RANK_HEADER: rank})

    def read_prefill(self, request: JsonBody, answer: Mapping[str, Any]) -> PrefillAnswer:
        return PrefillAnswer(None, finished=False)

    def prepare_decode(self, body: JsonBody, pairing: Pairing, params: Mapping[str, Any] | None) -> Prepared:
        _, engine_id = _rank(pairing)
        told = {
            "do_remote_prefill": True,
            "do_remote_decode": False,
            "transfer_id": transfer_id(pairing),
            "remote_bootstrap_addr": f"http://{url_host(pairing.prefill.address)}:{_port(pairing.prefill)}",
            "remote_engine_id": engine_id,
        }
        return Prepared(with_usage(body, {PARAMS: told}).encode())

    def concurrent(self, found: Mapping[str, Any] | None) -> bool:
        return True

    def probe(self, prefill: Endpoint) -> Probe:
        return Probe(_port(prefill), "/query")

    def learn(self, answer: Any) -> Mapping[str, Any] | None:
        """Data parallel rank to engine id."""
        if not isinstance(answer, dict):
            return None
        ranks = {rank: entry.get("engine_id") for rank, entry in answer.items() if isinstance(entry, dict)}
        return {rank: name for rank, name in ranks.items() if isinstance(name, str)} or None


def url_host(address: str) -> str:
    """An address as it stands in a URL: IPv6 in brackets."""
    return f"[{address}]" if ":" in address else address


def _port(prefill: Endpoint) -> int:
    return prefill.bootstrap_port or BOOTSTRAP_PORT


def _rank(pairing: Pairing) -> tuple[str, str]:
    """The rank that computes this prompt, and its engine id: the key spreads requests over the ranks."""
    if not pairing.found:
        raise ValueError("the prefill worker's engine ids are not known")
    ranks = sorted(pairing.found)
    rank = ranks[pairing.key % len(ranks)]
    return rank, pairing.found[rank]
