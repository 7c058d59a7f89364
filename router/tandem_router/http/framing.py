"""Bodies out of the bytes of a connection: of known length, in chunks, or until it closes. Pure.

`feed` takes bytes and gives what of them is body. Once `done`, `rest` holds what came after it.
"""

import re
from typing import ClassVar, Protocol

from tandem_router.http.head import ResponseHead, bad_request

MAX_LINE_BYTES = 1024
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;[\t -~\x80-\xff]*)?")
_SIZES = {b"%x" % size: size for size in range(1, 4096)}
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*")


class Body(Protocol):
    done: bool
    rest: bytes
    until_close: ClassVar[bool]

    def feed(self, data: bytes, /) -> bytes:
        """Raises HttpError."""
        ...


class Sized:
    """`length` bytes."""

    __slots__ = ("_left", "done", "rest")
    until_close: ClassVar[bool] = False

    def __init__(self, length: int) -> None:
        self._left = length
        self.done = length == 0
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        left = self._left
        if len(data) > left:
            data, self.rest = data[:left], self.rest + data[left:]
        self._left = left - len(data)
        self.done = self._left == 0
        return data


class UntilClose:
    """Everything. It is `done` when the connection is, which its owner sees."""

    __slots__ = ("done", "rest")
    until_close: ClassVar[bool] = True

    def __init__(self) -> None:
        self.done = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        return data


class Chunked:
    """Chunks; extensions and trailers are read over."""

    __slots__ = ("_left", "_rest_lines", "_waiting", "done", "rest")
    until_close: ClassVar[bool] = False

    def __init__(self) -> None:
        self._waiting = b""  # the beginning of a line, or of the line end behind a chunk
        self._left = 0  # of the chunk that is being read, its line end included
        self._rest_lines = -1  # trailers seen, once the last chunk was
        self.done = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        if not self._left and not self._waiting and self._rest_lines < 0:
            # Nearly always what comes is one whole chunk.
            start = data.find(b"\r\n", 1, 9) + 2
            if start > 2 and data.endswith(b"\r\n"):
                size = _SIZES.get(data[: start - 2])
                if size and len(data) == start + size + 2:
                    return data[start:-2]
        return self._feed(data)

    def _feed(self, data: bytes) -> bytes:
        if self.done:
            self.rest += data
            return b""
        if self._waiting:
            data, self._waiting = self._waiting + data, b""
        pieces: list[bytes] = []
        position, end = 0, len(data)
        while position < end and not self.done:
            if self._left:
                position = self._chunk(data, position, end, pieces)
            else:
                position = self._line(data, position)
            if self._waiting:
                break
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _chunk(self, data: bytes, position: int, end: int, pieces: list[bytes]) -> int:
        """Takes what is there of a chunk; returns the position behind it."""
        stop = position + self._left
        if stop <= end:
            if data[stop - 2 : stop] != b"\r\n":
                raise bad_request("a chunk is longer than it says")
            if self._left > 2:
                pieces.append(data[position : stop - 2])
            self._left = 0
            return stop
        body = min(end, stop - 2)
        if body > position:
            pieces.append(data[position:body])
            self._left -= body - position
            position = body
        if position < end:
            if data[position:end] != b"\r":
                raise bad_request("a chunk is longer than it says")
            self._waiting = b"\r"
        return end

    def _line(self, data: bytes, position: int) -> int:
        """Reads a size, or a trailer behind the last chunk; returns the position behind it."""
        stop = data.find(b"\r\n", position, position + MAX_LINE_BYTES)
        if stop < 0:
            if len(data) - position >= MAX_LINE_BYTES:
                raise bad_request("a chunk's size cannot be read")
            self._waiting = data[position:]
            return len(data)
        line = data[position:stop]
        if self._rest_lines >= 0:
            self._trailer(line)
        else:
            match = _SIZE.fullmatch(line)
            if match is None:
                raise bad_request("a chunk's size cannot be read")
            size = int(match[1], 16)
            if size:
                self._left = size + 2
            else:
                self._rest_lines = 0
        if self.done:
            self.rest = data[stop + 2 :]
        return stop + 2

    def _trailer(self, line: bytes) -> None:
        self._rest_lines += 1
        if not line:
            self.done = True
        elif self._rest_lines > 32 or _TRAILER.fullmatch(line) is None:
            raise bad_request("a trailer cannot be read")


def response_body(head: ResponseHead) -> Body:
    if head.chunked:
        return Chunked()
    return UntilClose() if head.length is None else Sized(head.length)
