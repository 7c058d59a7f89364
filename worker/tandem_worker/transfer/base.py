"""The seam between a hand-over and the wire that carries its KV."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from tandem_worker.errors import WorkerError
from tandem_worker.kv import KvLayout
from tandem_worker.lease import EndReason


class TransferFailure(StrEnum):
    """Why KV did not arrive. The values are metric labels and error codes."""

    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    UNKNOWN_HANDLE = "unknown_handle"
    WRONG_ENGINE = "wrong_engine"
    LAYOUT_MISMATCH = "layout_mismatch"
    PROMPT_MISMATCH = "prompt_mismatch"
    CORRUPT = "corrupt"
    FAILED = "failed"


class TransferError(WorkerError):
    """The KV of a hand-over did not arrive; nothing of it may be used."""

    def __init__(self, reason: TransferFailure, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class RemoteKv:
    """Where the KV of a prompt is: `handle` at the engine `engine_id`, whose KV service is at `host`:`port`.

    `num_tokens` and `digest` are those of the prompt here; the other side refuses when its own differ.
    """

    host: str
    port: int
    engine_id: str
    handle: str
    num_tokens: int
    digest: bytes

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class KvBlocks:
    """KV of consecutive blocks of a prompt, laid out as `Engine.read_blocks` gives it."""

    first_block: int
    num_blocks: int
    data: bytes


class KvTransport(Protocol):
    """Moves KV between workers."""

    def pull(
        self, source: RemoteKv, layout: KvLayout, first_block: int, num_blocks: int
    ) -> AsyncIterator[KvBlocks]:
        """Gives exactly these blocks, in order, checked. Raises `TransferError`. The lease stays."""

    async def release(self, source: RemoteKv, reason: EndReason) -> bool:
        """Ends the lease at the other side. False: it had ended, or cannot be reached. Never raises."""

    async def close(self) -> None: ...
