"""The files that routers want to see of the fleet: the same engines for each of them."""

import json
from pathlib import Path

from tandem_bench.router.peers import DECODE, HOST, PREFILL, REGULAR

MODEL = "mock"
SETTINGS = {"queueing": {"decodes": 4096, "prefillAhead": "10m"}}
"""The mock engines take all that comes, as other routers let it come: nothing shall wait in the router."""


def write(work: Path) -> None:
    """endpoints.json and settings.json for Tandem, litellm.yaml for LiteLLM."""
    work.mkdir(parents=True, exist_ok=True)
    (work / "endpoints.json").write_text(json.dumps(endpoints(), indent=1))
    (work / "settings.json").write_text(json.dumps(SETTINGS))
    (work / "litellm.yaml").write_text(litellm())


def endpoints() -> dict[str, list[dict[str, object]]]:
    roles = [("prefill", port) for port in PREFILL] + [("decode", port) for port in DECODE]
    return {
        "endpoints": [
            {
                "name": f"{role}-{port}",
                "address": HOST,
                "port": port,
                "role": role,
                "pool": role,
                "engine": "vllm",
                "model": MODEL,
                "revision": "1",
            }
            for role, port in roles
        ]
    }


def litellm() -> str:
    models = [
        {
            "model_name": MODEL,
            "litellm_params": {
                "model": f"openai/{MODEL}",
                "api_base": f"http://{HOST}:{port}/v1",
                "api_key": "none",
            },
        }
        for port in REGULAR
    ]
    return json.dumps({"model_list": models})  # JSON is YAML
