"""Other APIs in front of chat completions: requests are translated to them, answers and streams back. Pure.

Workers are only ever asked for chat completions: every API takes the same ways and works with every engine.
"""

from typing import Protocol


class Answerer(Protocol):
    """Says one request's answer in another API. A stream comes in through `feed`, in any pieces."""

    def whole(self, data: bytes, /) -> bytes:
        """A chat completion. Raises ValueError for what is none."""
        ...

    def error(self, status: int, data: bytes, /) -> bytes:
        """An error in OpenAI's shape."""
        ...

    def feed(self, data: bytes, /) -> bytes:
        """Events of a chat stream to events of this API; possibly none yet."""
        ...
