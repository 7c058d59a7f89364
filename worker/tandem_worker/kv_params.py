"""`kv_transfer_params`, as vLLM's NixlConnector names them: what a router asks of a worker, and the answer.

docs/architecture.md lists the keys.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tandem_worker.importer import ImportSource
from tandem_worker.kv import HeldKv
from tandem_worker.request import SeedToken, TokenLogprobs
from tandem_worker.transfer.base import RemoteKv

TokenId = Annotated[int, Field(ge=0, lt=2**31)]
Pair = Annotated[tuple[TokenId, float], Field(strict=False)]
"""JSON has no tuples, so a list must do."""


class FirstTokenLogprobs(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)

    sampled: float
    top: list[Pair] = []


class KvTransferParams(BaseModel):
    """The keys that this worker reads. Others belong to other engines and are ignored."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    do_remote_decode: bool = False
    do_remote_prefill: bool = False
    remote_engine_id: str | None = None
    remote_request_id: str | None = None
    remote_host: str | None = None
    remote_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    remote_num_tokens: Annotated[int, Field(ge=1)] | None = None
    remote_prefill_cached_tokens: Annotated[int, Field(ge=0)] = 0
    transfer_mode: Literal["pull"] | None = None
    tp_size: Literal[1] | None = None
    first_token_ids: Annotated[list[TokenId], Field(max_length=1)] | None = None
    first_token_logprobs: Annotated[list[FirstTokenLogprobs], Field(max_length=1)] | None = None
    reservation_id: str | None = None

    @model_validator(mode="after")
    def _is_one_leg(self) -> "KvTransferParams":
        if self.do_remote_decode and self.do_remote_prefill:
            raise ValueError("do_remote_decode and do_remote_prefill exclude each other")
        needed = ("remote_engine_id", "remote_request_id", "remote_host", "remote_port")
        missing = [name for name in needed if not getattr(self, name)]
        if self.do_remote_prefill and missing:
            raise ValueError(f"do_remote_prefill needs {', '.join(missing)}")
        return self

    def source(self, num_tokens: int, digest: bytes) -> ImportSource | None:
        """What to import for a prompt with this many tokens and this digest; None: this is no decode leg."""
        if not self.do_remote_prefill:
            return None
        kv = RemoteKv(
            host=self.remote_host or "",
            port=self.remote_port or 0,
            engine_id=self.remote_engine_id or "",
            handle=self.remote_request_id or "",
            num_tokens=num_tokens,
            digest=digest,
        )
        return ImportSource(kv, self._seed(), self.reservation_id, self.remote_prefill_cached_tokens)

    def _seed(self) -> SeedToken | None:
        if not self.first_token_ids:
            return None
        if not self.first_token_logprobs:
            return SeedToken(self.first_token_ids[0])
        logprobs = self.first_token_logprobs[0]
        return SeedToken(self.first_token_ids[0], TokenLogprobs(logprobs.sampled, tuple(logprobs.top)))


def answer_params(
    *,
    handle: str,
    held: HeldKv,
    engine_id: str,
    host: str,
    port: int,
    expires_at: float,
    num_cached_tokens: int,
    first_tokens: Sequence[SeedToken],
) -> dict[str, Any]:
    """The prefill leg's answer, to be pasted into the decode leg. `expires_at` is Unix time."""
    logprobs = [
        {"sampled": token.logprobs.sampled, "top": [list(pair) for pair in token.logprobs.top]}
        for token in first_tokens
        if token.logprobs is not None
    ]
    return {
        "do_remote_prefill": True,
        "do_remote_decode": False,
        "remote_block_ids": [list(held.block_ids)],
        "remote_engine_id": engine_id,
        "remote_request_id": handle,
        "remote_host": host,
        "remote_port": port,
        "tp_size": 1,
        "remote_num_tokens": held.num_tokens,
        "remote_blocks_expiry_time": expires_at,
        "transfer_mode": "pull",
        "remote_prefill_cached_tokens": num_cached_tokens,
        "first_token_ids": [token.token_id for token in first_tokens],
        "first_token_logprobs": logprobs or None,
    }
