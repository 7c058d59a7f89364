"""Bodies come out of the bytes whole, however the network cut them, and not a byte more."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem_router.http.framing import Body, Chunked, Sized, UntilClose
from tandem_router.http.head import HttpError


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


def read(body: Body, pieces: list[bytes]) -> bytes:
    return b"".join([body.feed(piece) for piece in pieces])


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    st.lists(st.integers(0, 400), max_size=8),
    st.sampled_from([b"", b";a=b", b" ; q"]),
    st.sampled_from([b"", b"x-trailer: 1\r\n", b"a: b\r\nc: \r\n"]),
    st.binary(max_size=10),
)
@settings(max_examples=200)
def test_chunks(parts: list[bytes], cuts: list[int], extension: bytes, trailer: bytes, after: bytes) -> None:
    chunks = b"".join([b"%X%b\r\n%b\r\n" % (len(part), extension, part) for part in parts])
    data = chunks + b"0\r\n" + trailer + b"\r\n" + after
    body = Chunked()
    assert read(body, pieces_of(data, cuts)) == b"".join(parts)
    assert body.done
    assert body.rest == after


@given(st.binary(max_size=50), st.lists(st.integers(0, 60), max_size=5), st.binary(max_size=10))
def test_known_length(data: bytes, cuts: list[int], after: bytes) -> None:
    body = Sized(len(data))
    assert read(body, pieces_of(data + after, cuts)) == data
    assert body.done
    assert body.rest == after


def test_a_chunk_is_passed_on_before_it_is_complete() -> None:
    body = Chunked()
    assert body.feed(b"a\r\n0123") == b"0123"
    assert body.feed(b"45") == b"45"
    assert body.feed(b"6789\r") == b"6789"
    assert body.feed(b"\n0\r\n\r\n") == b""
    assert body.done


def test_until_close_is_never_done_by_itself() -> None:
    body = UntilClose()
    assert read(body, [b"a", b"b"]) == b"ab"
    assert not body.done


@pytest.mark.parametrize(
    "data",
    [
        b"x\r\n",
        b"-1\r\n",
        b"+1\r\na\r\n",
        b"0x1\r\na\r\n",
        b"1_0\r\n",
        b" 1\r\na\r\n",
        b"\r\n",
        b"1\na\n\r\n",
        b"123456789\r\n",
        b"1\r\nab\r\n",
        b"1\r\na\n\r\n",
        b"1;" + b"x" * 2000,
        b"0\r\nbad trailer\r\n\r\n",
        b"0\r\n" + b"a: b\r\n" * 40,
    ],
)
@pytest.mark.parametrize("byte_by_byte", [False, True])
def test_chunks_that_could_be_read_in_two_ways(data: bytes, byte_by_byte: bool) -> None:
    pieces = [bytes([byte]) for byte in data] if byte_by_byte else [data]
    with pytest.raises(HttpError):
        read(Chunked(), pieces)
