"""vLLM's hand-over in two requests, as the router makes them, for what a router would not do."""

import json
from http.client import HTTPResponse
from typing import Any
from urllib.error import HTTPError
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


def whole(url: str, body: Json) -> str:
    """Ask one engine for the whole request; the text."""
    return str(_post(url, body)["choices"][0]["text"])


def decode(url: str, body: Json, params: Json) -> str:
    """Ask the decode engine at `url` to go on from there; the text."""
    text = _post(url, {**body, PARAMS: params})["choices"][0]["text"]
    return str(text)


def decode_status(url: str, body: Json, params: Json) -> int:
    """Ask as `decode` does; only the answer's status."""
    try:
        decode(url, body, params)
    except HTTPError as error:
        return error.code
    return 200


def decode_events(url: str, body: Json, params: Json) -> tuple[int, list[str]]:
    """Ask for a stream; its status, and what its events say."""
    with _open(url, {**body, PARAMS: params, "stream": True}) as answer:
        lines = [line.decode().strip() for line in answer]
        return answer.status, [line.removeprefix("data: ") for line in lines if line]


def _post(url: str, body: Json) -> Json:
    with _open(url, body) as answer:
        content: Json = json.load(answer)
    return content


def _open(url: str, body: Json) -> HTTPResponse:
    """Raises HTTPError for what is no 200."""
    request = Request(
        f"{url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    answer: HTTPResponse = urlopen(request, timeout=TIMEOUT)
    return answer
