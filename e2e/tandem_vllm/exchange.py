"""vLLM's hand-over in two requests, as the router makes them, for what a router would not do."""

import json
from typing import Any
from urllib.request import Request, urlopen

TIMEOUT = 30.0
PARAMS = "kv_transfer_params"

Json = dict[str, Any]


def prefill(url: str, body: Json) -> Json:
    """Ask the prefill engine at `url` to keep the prompt's KV; its `kv_transfer_params`."""
    ask = {"do_remote_decode": True, "do_remote_prefill": False}
    params = _post(url, {**body, "max_tokens": 1, PARAMS: ask})[PARAMS]
    if not isinstance(params, dict):
        raise TypeError(f"the prefill engine gave no params: {params}")
    return params


def decode(url: str, body: Json, params: Json) -> str:
    """Ask the decode engine at `url` to go on from there; the text."""
    text = _post(url, {**body, PARAMS: params})["choices"][0]["text"]
    return str(text)


def _post(url: str, body: Json) -> Json:
    request = Request(
        f"{url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urlopen(request, timeout=TIMEOUT) as answer:
        content: Json = json.load(answer)
    return content
