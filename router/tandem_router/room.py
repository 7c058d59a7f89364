"""How many tokens prompt and output may have together, as a vLLM worker tells it."""

import json
from collections.abc import Sequence

from tandem_router.engines.base import Probe
from tandem_router.http.upstream import Upstreams
from tandem_router.legs import ask_peer
from tandem_router.types import Endpoint

SECONDS = 1.0
TRIES = 2


async def ask_room(upstreams: Upstreams, workers: Sequence[Endpoint]) -> int | None:
    """Asks the first ones, one after the other; None: none of them says."""
    for worker in workers[:TRIES]:
        deadline = upstreams.loop.time() + SECONDS
        try:
            answer = await ask_peer(upstreams, worker, Probe(worker.port, "/v1/models"), deadline)
        except OSError:
            continue
        if (room := _max_model_len(answer)) is not None:
            return room
    return None


def _max_model_len(models: bytes) -> int | None:
    try:
        found = json.loads(models)["data"][0]["max_model_len"]
    except (ValueError, LookupError, TypeError):
        return None
    return found if isinstance(found, int) else None
