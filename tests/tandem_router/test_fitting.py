"""What a request becomes in front of different engines."""

import json
from typing import Any

import pytest

from tandem_router.access.names import Names
from tandem_router.candidates import candidates
from tandem_router.errors import ApiError
from tandem_router.fitting import fitted
from tandem_router.openai import Api, ParsedRequest, parse_request
from tandem_router.types import Endpoint, Role
from tandem_wire.router_settings import Access

NAMES = Names(Access.model_validate({"adapters": [{"name": "sql", "model": "m"}]}))
BOTH = (Role.PREFILL, Role.DECODE)


def ask(engine: str, roles: tuple[Role, ...] = BOTH, **body: Any) -> ParsedRequest:
    workers = [Endpoint(role, "10.0.0.1", 80, role, role, engine, "m", "1") for role in roles]
    data = json.dumps({"model": "m", "prompt": "hi", **body}).encode()
    return fitted(parse_request(Api.COMPLETION, data, "r1", names=NAMES), candidates(workers, "m"))


def test_what_cannot_be_handed_over_is_noted() -> None:
    assert ask("vllm", n=2).info.needs_local == "n"
    assert ask("vllm").info.needs_local == ""
    assert ask("sglang", n=2).info.needs_local == ""


def test_what_nobody_can_do_is_refused() -> None:
    """SGLang's workers for one phase take no whole requests."""
    with pytest.raises(ApiError) as caught:
        ask("sglang", prompt_logprobs=1)
    assert (caught.value.status, caught.value.param) == (400, "prompt_logprobs")
    assert ask("sglang", (*BOTH, Role.MIXED), prompt_logprobs=1).info.needs_local == "prompt_logprobs"
    assert ask("vllm", (), n=2).info.needs_local == ""


def test_engines_are_told_of_adapters_in_their_own_way() -> None:
    assert dict(ask("vllm-mooncake", model="sql").body) == {"model": "sql", "prompt": "hi"}
    assert dict(ask("sglang", model="sql").body) == {"model": "m", "prompt": "hi", "lora_path": "sql"}
    with pytest.raises(ApiError) as caught:
        ask("trtllm", model="sql")
    assert (caught.value.status, caught.value.code) == (400, "adapter_unsupported")
