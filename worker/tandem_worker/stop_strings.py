"""Finds stop strings in text that arrives in pieces, and holds back what may yet become one. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StopMatch:
    """`text` may be sent; `stop` is the string that ended the output, None while it goes on."""

    text: str
    stop: str | None


class StopStrings:
    """The string that is complete first wins, the longest of several. How pieces are cut never matters."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = sorted(stops, key=len, reverse=True)
        self._held = ""

    def push(self, piece: str) -> StopMatch:
        text = self._held + piece
        found = [(at + len(stop), at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            _, start, stop = min(found)
            self._held = ""
            return StopMatch(text[:start], stop)
        keep = len(text) - self._num_held(text)
        self._held = text[keep:]
        return StopMatch(text[:keep], None)

    def flush(self) -> str:
        """What is still held when the output ends without a stop string."""
        held, self._held = self._held, ""
        return held

    def _num_held(self, text: str) -> int:
        """Length of the longest end of `text` with which a stop string begins."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0
