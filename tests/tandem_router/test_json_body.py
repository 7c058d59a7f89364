"""Bodies are edited without touching what is not named."""

import json
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem_router.json_body import BodyError, parse_object

KEYS = st.text(string.ascii_letters + ' "\\é', min_size=1, max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(KEYS, VALUES, max_size=6), st.booleans(), st.sampled_from([None, 0, 2]))
@settings(max_examples=150)
def test_values_and_order_survive(values: dict[str, object], ascii_only: bool, indent: int | None) -> None:
    data = json.dumps(values, ensure_ascii=ascii_only, indent=indent).encode()
    body = parse_object(data)
    assert dict(body) == values
    assert list(body) == list(values)
    assert json.loads(body.encode()) == values


def test_unknown_members_stay_byte_for_byte() -> None:
    odd = b'"x": {"a" : 1e5, "a":2,"id": 123456789012345678901234567890, "f": 0.1000000000, "u": "\\u00e9"}'
    data = b'{"max_tokens": 9, ' + odd + b', "stream":true}'
    edited = parse_object(data).without("stream").with_values({"max_tokens": 1, "new": {"k": None}}).encode()
    assert odd in edited
    assert edited.startswith(b'{"max_tokens": 1, "x"')
    assert edited.endswith(b'"new": {"k": null}}')


def test_integers_beyond_doubles_are_exact() -> None:
    body = parse_object(b'{"seed": 9007199254740993, "big": 123456789012345678901}')
    assert body["seed"] == 9007199254740993
    assert b"123456789012345678901" in body.with_values({"max_tokens": 1}).encode()


def test_empty_object_can_be_filled() -> None:
    assert parse_object(b" {} ").with_values({"a": 1}).encode() == b'{"a": 1}'


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b'{"a": 1, "a": 2}', "'a' appears twice"),
        (b'{"a": 1, "\\u0061": 2}', "'a' appears twice"),
        (b"[1]", "must be a JSON object"),
        (b"", "must be a JSON object"),
        (b'{"a": 1', "line 1, column 8"),
        (b'{"a" 1}', "Expecting ':'"),
        (b'{"a": }', "Expecting value"),
        (b'{"a": 1,}', "property name"),
        (b'{"a": 1} x', "Extra data"),
        (b"{'a': 1}", "property name"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": [-Infinity]}', "-Infinity is not JSON"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"a": "\n"}', "control character"),
        (b'{"a": ' + b"9" * 5000 + b"}", "too many digits"),
        (b'{"a": ' + b"[" * 100_000 + b"}", "nested too deeply"),
    ],
)
def test_what_is_not_one_object_is_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(BodyError, match=complaint.replace("(", r"\(")):
        parse_object(data)


@given(st.binary(max_size=40) | st.text('{}[]",:0e-.\\tna ', max_size=30).map(str.encode))
@settings(max_examples=150)
def test_agrees_with_the_standard_parser_on_what_is_json(data: bytes) -> None:
    try:
        expected = json.loads(data.decode())
    except ValueError:
        expected = None
    try:
        body = dict(parse_object(data))
    except BodyError:
        return
    assert body == expected
