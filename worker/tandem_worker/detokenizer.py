"""Token ids to text, a token at a time, without ever sending half a character. Pure."""

from collections.abc import Sequence
from typing import Protocol

REPLACEMENT = "�"
MAX_HELD_TOKENS = 16  # a character is at most 4 byte tokens: what stays unreadable longer is none


class Decoder(Protocol):
    def decode(self, token_ids: Sequence[int]) -> str: ...


class Detokenizer:
    """Decodes a sliding window, because what a token reads as depends on the tokens before it.

    Text that ends in an unfinished character is held until the character is complete, or surely is none.
    `context`: the last tokens of the prompt.
    """

    def __init__(self, decoder: Decoder, context: Sequence[int] = ()) -> None:
        self._decoder = decoder
        self._window = list(context)
        self._num_read = len(self._window)

    def push(self, token_id: int) -> str:
        self._window.append(token_id)
        piece = self._unread()
        unfinished = not piece or piece.endswith(REPLACEMENT)
        if unfinished and len(self._window) - self._num_read < MAX_HELD_TOKENS:
            return ""
        if piece:
            self._advance()
        else:
            del self._window[self._num_read :]
        return piece

    def flush(self) -> str:
        """What is left when the output ends; an unfinished character reads as a replacement character."""
        piece = self._unread()
        self._advance()
        return piece

    def _unread(self) -> str:
        before = self._decoder.decode(self._window[: self._num_read])
        return self._decoder.decode(self._window)[len(before) :]

    def _advance(self) -> None:
        self._window = self._window[self._num_read :]
        self._num_read = len(self._window)
