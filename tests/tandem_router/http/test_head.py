"""Heads are read strictly: what is accepted, llhttp (Node's parser) understands the same way."""

from typing import Any

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem_router.http.head import HttpError, read_request, read_response

LINE = b"POST /v1/completions?a=b HTTP/1.1\r\nhost: router"


class Seen:
    """What httptools tells of a message."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: list[tuple[str, str]] = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.decode("latin-1").lower(), value.decode("latin-1").strip(" \t")))


def test_a_request() -> None:
    head = read_request(
        LINE + b"\r\nContent-Length: 12\r\nX-Two:  a \t\r\nx-two: b\r\nX-Odd: \xc3\xa9\r\nX-Empty:"
    )
    assert (head.method, head.target, head.length, head.keep_alive) == (
        "POST", "/v1/completions?a=b", 12, True
    )  # fmt: skip
    assert head.headers["x-two"] == "a, b"
    assert head.headers["x-odd"].encode("latin-1") == b"\xc3\xa9"
    assert head.headers["x-empty"] == ""


@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [
        (b"1.1", None, True),
        (b"1.1", b"close", False),
        (b"1.1", b"TE, Close", False),
        (b"1.0", None, False),
        (b"1.0", b"Keep-Alive", True),
    ],
)
def test_when_a_connection_is_kept(version: bytes, connection: bytes | None, kept: bool) -> None:
    more = b"" if connection is None else b"\r\nconnection: " + connection
    assert read_request(b"GET / HTTP/" + version + b"\r\nhost: x" + more).keep_alive is kept


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (LINE + b"\r\ncontent-length: 3\r\ntransfer-encoding: chunked", 400),
        (LINE + b"\r\ncontent-length: 3\r\ncontent-length: 3", 400),
        (LINE + b"\r\ncontent-length: 3, 3", 400),
        (LINE + b"\r\ncontent-length: +3", 400),
        (LINE + b"\r\ncontent-length: 0x3", 400),
        (LINE + b"\r\ncontent-length: 3_0", 400),
        (LINE + b"\r\ncontent-length:", 400),
        (LINE + "\r\ncontent-length: ٣".encode(), 400),
        (LINE + b"\r\ntransfer-encoding: gzip, chunked", 501),
        (LINE + b"\r\ntransfer-encoding: xchunked", 501),
        (LINE + b"\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked", 400),
        (b"POST / HTTP/1.0\r\ntransfer-encoding: chunked", 501),
        (LINE + b"\r\nx: a\r\n folded", 400),
        (LINE + b"\r\nx : a", 400),
        (LINE + b"\r\n: a", 400),
        (LINE + b"\r\nx", 400),
        (LINE + b"\r\nx: a\nb: c", 400),
        (LINE + b"\r\nx: a\rb: c", 400),
        (LINE + b"\r\nx: a\x00", 400),
        (LINE + b"\r\nhost: other", 400),
        (b"POST / HTTP/1.1", 400),
        (b"POST  / HTTP/1.1\r\nhost: x", 400),
        (b"POST / HTTP/1.1 \r\nhost: x", 400),
        (b"POST / HTTP/2.0\r\nhost: x", 400),
        (b"POST /\xff HTTP/1.1\r\nhost: x", 400),
        (b"\nPOST / HTTP/1.1\r\nhost: x", 400),
        (LINE + b"\r\nx: y" * 101, 431),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(data: bytes, status: int) -> None:
    with pytest.raises(HttpError) as refused:
        read_request(data)
    assert refused.value.status == status


FIELDS = st.sampled_from(
    [
        b"content-length: 5",
        b"transfer-encoding: chunked",
        b"x-a: b",
        b"connection: close",
        b"Content-Type: application/json",
    ]
)


@given(
    st.sampled_from([b"POST", b"GET"]),
    st.lists(FIELDS, max_size=4),
    st.lists(st.tuples(st.integers(0, 200), st.binary(max_size=2), st.integers(0, 2)), max_size=2),
)
@settings(max_examples=300)
def test_what_is_accepted_means_the_same_to_another_parser(
    method: bytes, fields: list[bytes], edits: list[tuple[int, bytes, int]]
) -> None:
    data = b"\r\n".join([method + b" /v1/completions HTTP/1.1", b"Host: router", *fields])
    for place, put, drop in edits:
        data = data[:place] + put + data[place + drop :]
    try:
        head = read_request(data)
    except HttpError:
        return
    if head.method not in ("POST", "GET") or not head.target.startswith("/"):
        return  # never hot, so another server reads it from its first byte
    seen: Any = Seen()
    parser = httptools.HttpRequestParser(seen)
    parser.feed_data(data + b"\r\n\r\n")
    assert parser.get_method().decode() == head.method
    assert seen.url.decode("latin-1") == head.target
    assert dict(seen.headers).keys() == head.headers.keys()
    assert ", ".join(v for k, v in seen.headers if k == "x-a") == head.headers.get("x-a", "")


def test_an_answer() -> None:
    head = read_response(b"HTTP/1.1 200\r\nTransfer-Encoding: Chunked\r\ncontent-type: text/event-stream")
    assert (head.status, head.chunked, head.length, head.keep_alive) == (200, True, None, True)
    head = read_response(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0")
    assert (head.status, head.chunked, head.length, head.keep_alive) == (404, False, 0, True)
    head = read_response(b"HTTP/1.1 200 OK")
    assert (head.chunked, head.length, head.keep_alive) == (False, None, False)
    assert read_response(b"HTTP/1.1 204 No Content").length == 0
    assert not read_response(b"HTTP/1.0 200 OK\r\ncontent-length: 2").keep_alive


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"ICY 200 OK",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked",
        b"HTTP/1.1 200 OK\r\ncontent-length: -2",
    ],
)
def test_answers_that_cannot_be_read(data: bytes) -> None:
    with pytest.raises(HttpError):
        read_response(data)
