"""A batch of KV events as vLLM and SGLang publish it. Pure.

A batch is [ts, events, data_parallel_rank]. An event is a tagged array (older vLLM, SGLang) or a map with
`type` (newer vLLM); block hashes are integers or bytes. Fields may be missing, unknown ones are ignored.
"""

from typing import Any

import msgspec

from tandem_router.kv_events import BlockName, Cleared, KvEvent, Removed, Stored

_STORED = (
    "type", "block_hashes", "parent_block_hash", "token_ids", "block_size", "lora_id", "medium", "lora_name",
    "extra_keys", "group_idx",
)  # fmt: skip
_REMOVED = ("type", "block_hashes", "medium", "group_idx")
_FIELDS = {"BlockStored": _STORED, "BlockRemoved": _REMOVED, "AllBlocksCleared": ("type",)}
_decode = msgspec.msgpack.Decoder().decode


class BadEventsError(ValueError):
    """A batch that cannot be read: nothing is known of its worker's cache any more."""


def decode_batch(payload: bytes) -> list[KvEvent]:
    """The events in order. Of hybrid models only the first group of layers counts. Raises BadEventsError."""
    try:
        batch = _decode(payload)
        return [event for item in batch[1] if (event := _event(_named(item))) is not None]
    except (msgspec.DecodeError, LookupError, TypeError, ValueError) as error:
        raise BadEventsError(f"unreadable KV events: {error}") from error


def _named(item: Any) -> dict[str, Any]:
    if isinstance(item, dict):
        return item
    if not isinstance(item, list):
        raise TypeError(f"an event is no {type(item).__name__}")
    return dict(zip(_FIELDS.get(item[0], ("type",)), item, strict=False))


def _event(fields: dict[str, Any]) -> KvEvent | None:
    if fields.get("group_idx"):
        return None
    match fields["type"]:
        case "BlockStored":
            return _stored(fields)
        case "BlockRemoved":
            return Removed(_names(fields["block_hashes"]), fields.get("medium") or "")
        case "AllBlocksCleared":
            return Cleared()
    return None


def _stored(fields: dict[str, Any]) -> Stored:
    blocks, size = _names(fields["block_hashes"]), int(fields["block_size"])
    token_ids = tuple(map(int, fields["token_ids"]))
    if size < 1 or len(token_ids) < size * len(blocks):
        raise ValueError(f"{len(token_ids)} tokens for {len(blocks)} blocks of {size}")
    parent, number = fields.get("parent_block_hash"), fields.get("lora_id")
    adapter = fields.get("lora_name") or ("" if number is None else f"#{number}")
    keys = fields.get("extra_keys") or ()
    extra = tuple(_extra(found, adapter) for found in keys) if any(keys) else ()
    medium = fields.get("medium") or ""
    return Stored(
        blocks, None if parent is None else _names([parent])[0], token_ids, size, adapter, medium, extra
    )


def _extra(found: Any, adapter: str) -> tuple[str, ...]:
    return tuple(str(part) for part in found or () if part != adapter)


def _names(hashes: Any) -> tuple[BlockName, ...]:
    if not all(isinstance(value, int | bytes) for value in hashes):
        raise TypeError("a block hash is an integer or bytes")
    return tuple(hashes)
