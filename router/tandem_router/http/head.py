"""The heads of HTTP/1 messages, read strictly: what could be understood in two ways is refused. Pure."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

MAX_HEAD_BYTES = 32 * 2**10
MAX_FIELDS = 100
END = b"\r\n\r\n"
MAX_REMEMBERED_BYTES = 512

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST = re.compile(rf"({_NAME}) ([!-~]+) HTTP/1\.([01])")
_STATUS = re.compile(r"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [\t -~\x80-\xff]*)?")
_FIELD = re.compile(rf"\r\n({_NAME}):([\t -~\x80-\xff]*)")
_LENGTH = re.compile(r"[0-9]{1,15}")
_SINGLE = frozenset({"content-length", "host", "transfer-encoding"})


class HttpError(ValueError):
    """The peer does not speak HTTP as it should. `status` is what a client is told."""

    def __init__(self, status: int, message: str, code: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


def bad_request(message: str) -> HttpError:
    return HttpError(400, message, "bad_request")


def too_many_headers() -> HttpError:
    return HttpError(431, f"more than {MAX_FIELDS} headers or {MAX_HEAD_BYTES} bytes", "too_many_headers")


class RequestHead(NamedTuple):
    """`length` is the body's in bytes; None: it comes in chunks. `target` is as sent, query included."""

    method: str
    target: str
    headers: dict[str, str]
    length: int | None
    keep_alive: bool
    version: str


class ResponseHead(NamedTuple):
    """`length` None: in chunks if `chunked`, else until the connection closes."""

    status: int
    headers: Mapping[str, str]
    length: int | None
    chunked: bool
    keep_alive: bool


def read_request(data: bytes) -> RequestHead:
    """A request's head, without the blank line that ends it. Raises HttpError."""
    line, headers = _split(data)
    match = _REQUEST.fullmatch(line)
    if match is None:
        raise bad_request("the request line cannot be read")
    method, target, minor = match[1], match[2], match[3]
    if minor == "1" and "host" not in headers:
        raise bad_request("a request needs a host header")
    length, chunked = _framing(headers, minor)
    return RequestHead(
        method, target, headers, None if chunked else length or 0, _keeps(headers, minor), minor
    )


def read_response(data: bytes) -> ResponseHead:
    """An answer's head, without the blank line that ends it. Raises HttpError."""
    return _remembered(data) if len(data) <= MAX_REMEMBERED_BYTES else _read_response(data)


def _read_response(data: bytes) -> ResponseHead:
    line, headers = _split(data)
    match = _STATUS.fullmatch(line)
    if match is None:
        raise bad_request("the status line cannot be read")
    status = int(match[2])
    length, chunked = _framing(headers, match[1])
    if status in (204, 304) or status < 200:
        length, chunked = 0, False
    keep_alive = _keeps(headers, match[1]) and (chunked or length is not None)
    return ResponseHead(status, headers, length, chunked, keep_alive)


# Within a second the heads of a worker's streams are the same, and most of those of its prefill answers.
_remembered = lru_cache(maxsize=1024)(_read_response)


def _split(data: bytes) -> tuple[str, dict[str, str]]:
    """The first line, and the headers with names in lower case."""
    text = data.decode("latin-1")
    start = text.find("\r\n")
    if start < 0:
        return text, {}
    fields = _FIELD.findall(text, start)
    if len(fields) > MAX_FIELDS:
        raise too_many_headers()
    headers: dict[str, str] = {}
    for name, value in fields:
        start += len(name) + len(value) + 3
        key, value = name.lower(), value.strip(" \t")
        if key in headers:
            if key in _SINGLE:
                raise bad_request(f"{key} is given twice")
            value = f"{headers[key]}, {value}"
        headers[key] = value
    if start != len(text):
        raise bad_request("a header cannot be read")
    return text[: text.find("\r\n")], headers


def _framing(headers: dict[str, str], minor: str) -> tuple[int | None, bool]:
    """The body's length where it is given, and whether it comes in chunks."""
    coding, given = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None:
        if given is not None:
            raise bad_request("both content-length and transfer-encoding are given")
        if coding.lower() != "chunked" or minor == "0":
            raise HttpError(501, f"the transfer encoding {coding!r} is not supported", "bad_request")
        return None, True
    if given is None:
        return None, False
    if _LENGTH.fullmatch(given) is None:
        raise bad_request("content-length is no number")
    return int(given), False


def _keeps(headers: dict[str, str], minor: str) -> bool:
    given = headers.get("connection")
    if given is None:
        return minor == "1"
    options = [option.strip() for option in given.lower().split(",")]
    return "keep-alive" in options if minor == "0" else "close" not in options
