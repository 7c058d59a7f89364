"""The prefix cache of a worker: which leading blocks of prompts it still has."""

from collections import OrderedDict
from collections.abc import Sequence


class PrefixCache:
    """Block names, the least recently used leave first; `room` in tokens."""

    def __init__(self, room: int) -> None:
        self._blocks: OrderedDict[int, int] = OrderedDict()
        self._room = room

    def match(self, blocks: Sequence[int]) -> int:
        """How many leading blocks are here."""
        for index, block in enumerate(blocks):
            if block not in self._blocks:
                return index
        return len(blocks)

    def insert(self, blocks: Sequence[int], block_tokens: int) -> None:
        """They were computed or used; of one prompt the later blocks leave before the earlier ones."""
        for block in reversed(blocks):
            if block not in self._blocks:
                self._room -= block_tokens
            self._blocks[block] = block_tokens
            self._blocks.move_to_end(block)
        while self._room < 0:
            self._room += self._blocks.popitem(last=False)[1]
