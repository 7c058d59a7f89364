"""A request as the engine of its model can take it: what it can do, and how it is told of adapters. Pure."""

from dataclasses import replace

from tandem_router.candidates import Candidates
from tandem_router.engines.limits import ADAPTER_FIELD, kind_of, why_local
from tandem_router.errors import ApiError, needs_whole_worker
from tandem_router.openai import ParsedRequest


def fitted(parsed: ParsedRequest, found: Candidates) -> ParsedRequest:
    """Notes what cannot be handed over, and names the adapter. Raises ApiError (400) if nobody can do it."""
    if not parsed.features and not parsed.info.adapter:
        return parsed
    engines = {worker.engine for worker in found.usable}
    if kept := why_local(engines, parsed.features):
        if found.sides and not found.wholes:
            raise needs_whole_worker(kept)
        parsed = replace(parsed, info=replace(parsed.info, needs_local=kept))
    return _with_adapter(parsed, engines) if parsed.info.adapter else parsed


def _with_adapter(parsed: ParsedRequest, engines: set[str]) -> ParsedRequest:
    kinds = {kind_of(engine) for engine in engines}
    if unable := sorted(kinds - set(ADAPTER_FIELD)):
        message = f"{unable[0]} workers take no adapters by name"
        raise ApiError(400, message, "adapter_unsupported", "model")
    fields = {ADAPTER_FIELD[kind] for kind in kinds}
    if fields != {"lora_path"}:
        return parsed
    told = {"model": parsed.info.model, "lora_path": parsed.info.adapter}
    return replace(parsed, body=parsed.body.with_values(told))
