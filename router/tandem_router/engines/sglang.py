"""SGLang's bootstrap: both legs carry the same room and go out at once.

Source: docs/advanced_features/pd_disaggregation.md. The two workers meet at the prefill worker's bootstrap
server. A leg whose partner never comes waits for 300 s: when one ends badly, the other has to be cancelled.
"""

from collections.abc import Mapping
from typing import Any

from tandem_router.engines.base import NO_STREAM, Engine, Pairing, PrefillAnswer, Prepared, with_usage
from tandem_router.engines.vllm_mooncake import url_host
from tandem_router.json_body import JsonBody

BOOTSTRAP_PORT = 8998


class Sglang(Engine):
    """The prefill leg's answer is nothing but the news that the KV has been sent."""

    def prepare_prefill(self, body: JsonBody, pairing: Pairing) -> Prepared:
        body = body.without("stream_options").with_members(NO_STREAM)
        return Prepared(body.with_values(_meeting(pairing, body)).encode())

    def read_prefill(self, request: JsonBody, answer: Mapping[str, Any]) -> PrefillAnswer:
        return PrefillAnswer(None, finished=False)

    def prepare_decode(self, body: JsonBody, pairing: Pairing, params: Mapping[str, Any] | None) -> Prepared:
        return Prepared(with_usage(body, _meeting(pairing, body)).encode())

    def concurrent(self, found: Mapping[str, Any] | None) -> bool:
        return True


def _meeting(pairing: Pairing, body: JsonBody) -> dict[str, Any]:
    """Lists, one entry for each sequence, where there are several."""
    host = url_host(pairing.prefill.address)
    port = pairing.prefill.bootstrap_port or BOOTSTRAP_PORT
    rooms = [(pairing.key + index) % 2**63 for index in range(_sequences(body))]
    if len(rooms) == 1:
        return {"bootstrap_host": host, "bootstrap_port": port, "bootstrap_room": rooms[0]}
    return {
        "bootstrap_host": [host] * len(rooms),
        "bootstrap_port": [port] * len(rooms),
        "bootstrap_room": rooms,
    }


def _sequences(body: JsonBody) -> int:
    prompts, answers = body.get("prompt"), int(body.get("n") or 1)
    if isinstance(prompts, list) and prompts and isinstance(prompts[0], str | list):
        return answers * len(prompts)
    return answers
