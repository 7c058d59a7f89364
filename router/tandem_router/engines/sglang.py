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
        return Prepared(body.with_values(_meeting(pairing)).encode())

    def read_prefill(self, request: JsonBody, answer: Mapping[str, Any]) -> PrefillAnswer:
        return PrefillAnswer(None, finished=False)

    def prepare_decode(self, body: JsonBody, pairing: Pairing, params: Mapping[str, Any] | None) -> Prepared:
        return Prepared(with_usage(body, _meeting(pairing)).encode())

    def concurrent(self, found: Mapping[str, Any] | None) -> bool:
        return True


def _meeting(pairing: Pairing) -> dict[str, Any]:
    return {
        "bootstrap_host": url_host(pairing.prefill.address),
        "bootstrap_port": pairing.prefill.bootstrap_port or BOOTSTRAP_PORT,
        "bootstrap_room": pairing.key,
    }
