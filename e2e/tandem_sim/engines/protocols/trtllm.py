"""TensorRT-LLM: `disaggregated_params` both ways, context before generation.

Bodies are strict: a field that the real schema does not have is a 400. Ids of 64 bits are compared whole.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from typing import Any

from aiohttp import web

from tandem_sim.engines.kv import KvGoneError
from tandem_sim.engines.protocols.base import WRONG_ENGINE, Ask, HandOver, LegName, RefusedError

PULL = "/sim/pull"


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PARAMS = "disaggregated_params"
_COMMON = """
    model max_tokens stream stream_options n stop temperature top_p user seed logit_bias frequency_penalty
    presence_penalty use_beam_search top_k top_p_min min_p repetition_penalty length_penalty early_stopping
    stop_token_ids include_stop_str_in_output ignore_eos min_tokens skip_special_tokens best_of logprobs
    spaces_between_special_tokens truncate_prompt_tokens add_special_tokens response_format lora_request
    disaggregated_params cache_salt prompt_logprobs
"""
_COMPLETION = _names(f"{_COMMON} prompt echo suffix return_context_logits detokenize")
_CHAT = _names(
    f"""{_COMMON} messages prompt_token_ids top_logprobs max_completion_tokens tools tool_choice documents
    parallel_tool_calls chat_template chat_template_kwargs add_generation_prompt reasoning_effort"""
)
_PARAM_FIELDS = _names(
    """request_type first_gen_tokens first_gen_log_probs ctx_request_id encoded_opaque_state draft_tokens
    disagg_request_id ctx_dp_rank ctx_info_endpoint schedule_style conversation_id ctx_usage"""
)
_LEGS: Mapping[str, LegName] = {
    "context_only": "prefill",
    "generation_only": "decode",
    "context_and_generation": "whole",
}


class Trtllm(HandOver):
    error_in_stream = False

    def leg(self, ask: Ask) -> LegName:
        _check_fields(ask.body, _CHAT if ask.chat else _COMPLETION, "")
        params = ask.body.get(_PARAMS)
        if params is None:
            return "whole"
        _check_fields(params, _PARAM_FIELDS, f"{_PARAMS}.")
        leg = _LEGS.get(params.get("request_type"))
        if leg is None:
            raise RefusedError("disaggregated_params.request_type is wrong")
        if leg == "decode":
            self._check_generation(ask, params)
        return leg

    async def keep(self, ask: Ask, seconds: float) -> Mapping[str, Any]:
        asked = ask.body[_PARAMS].get("disagg_request_id")
        number = asked if asked is not None else int(ask.digest, 16) % 2**42
        self.site.kv.grant(str(number), ask.digest, seconds)
        return {
            "prompt_token_ids": ask.ids,
            _PARAMS: {
                "request_type": "context_only",
                "first_gen_tokens": [17],
                "ctx_request_id": number,
                "disagg_request_id": number,
                "encoded_opaque_state": self._state(),
                "ctx_dp_rank": 0,
            },
        }

    async def load(self, ask: Ask) -> str | None:
        params = ask.body[_PARAMS]
        state = json.loads(base64.b64decode(params["encoded_opaque_state"]))
        url = f"http://{state['host']}:{state['port']}{PULL}"
        asked = {"handle": str(params["ctx_request_id"]), "engine_id": state["engine_id"]}
        digest: str = (await self.call(url, asked))["digest"]
        return digest

    def routes(self) -> Iterable[web.RouteDef]:
        return (web.post(PULL, self._pull),)

    def _state(self) -> str:
        site = self.site
        state = {"host": site.settings.host, "port": site.port, "engine_id": site.kv.engine_id}
        return base64.b64encode(json.dumps(state).encode()).decode()

    async def _pull(self, request: web.Request) -> web.Response:
        asked, kv = await request.json(), self.site.kv
        try:
            digest = kv.look(asked["handle"], asked["engine_id"])
        except KvGoneError:
            return web.Response(status=WRONG_ENGINE)
        kv.end(asked["handle"], pulled=True)
        return web.json_response({"digest": digest})

    def _check_generation(self, ask: Ask, params: Mapping[str, Any]) -> None:
        if type(params.get("ctx_request_id")) is not int or not params.get("encoded_opaque_state"):
            raise RefusedError("a generation-only request needs ctx_request_id and encoded_opaque_state")
        if self.site.settings.auth_key and not self._signed(ask, params):
            raise RefusedError("Invalid internal disaggregated request authentication")

    def _signed(self, ask: Ask, params: Mapping[str, Any]) -> bool:
        signed = {key: params.get(key) for key in ("ctx_info_endpoint", "encoded_opaque_state")}
        text = json.dumps(signed, sort_keys=True, separators=(",", ":")).encode()
        wanted = hmac.new(self.site.settings.auth_key.encode(), text, hashlib.sha256).hexdigest()
        return hmac.compare_digest(ask.headers.get("x-trtllm-disagg-auth", ""), f"sha256={wanted}")


def _check_fields(values: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    if unknown := sorted(set(values) - known):
        raise RefusedError(f"{where}{unknown[0]}: Extra inputs are not permitted")
