"""What engines tell of their prefix caches. Pure values; the modules beside this read them off the wire."""

from dataclasses import dataclass


class TokenizerError(Exception):
    """The tokenizer that prompts are to be matched with cannot be used."""


BlockName = int | bytes
"""An engine's own hash of a block: whatever it is made with, it only names the block."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Blocks that are cached from now on, in a row, the first after `parent` (None: at the prompt's start).

    `extra`: for each block what else it depends on (a cache salt, images), empty if nothing.
    """

    blocks: tuple[BlockName, ...]
    parent: BlockName | None
    token_ids: tuple[int, ...]
    block_size: int
    adapter: str = ""
    medium: str = ""
    extra: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Removed:
    blocks: tuple[BlockName, ...]
    medium: str = ""


@dataclass(frozen=True, slots=True)
class Cleared:
    """Nothing is cached any more."""


KvEvent = Stored | Removed | Cleared
