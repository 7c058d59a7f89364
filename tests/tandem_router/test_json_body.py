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
    assert edited.endswith(b'"new": {"k":null}}')


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
        (b'{"a": 1 , "b": 2, "a": 2}', "'a' appears twice"),
        (b"[1]", "must be a JSON object"),
        (b"", "truncated"),
        (b'{"a": 1', "truncated"),
        (b'{"a" 1}', "expected ':'"),
        (b'{"a": }', "byte 6"),
        (b'{"a": 1,}', "trailing comma"),
        (b'{"a": 1} x', "trailing characters"),
        (b"{'a': 1}", "byte 1"),
        (b'{"a": NaN}', "byte 6"),
        (b'{"a": [-Infinity]}', "byte 8"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"a": "\n"}', "byte 7"),
        (b'{"a": ' + b"[" * 100_000 + b"}", "nested too deeply"),
    ],
)
def test_what_is_not_one_object_is_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(BodyError, match=complaint.replace("(", r"\(")):
        parse_object(data)


def test_a_number_that_nobody_reads_passes() -> None:
    long = b"9" * 5000
    body = parse_object(b'{"a": ' + long + b', "b": 1e999, "c": 1}')
    assert long in body.without("c").encode()
    with pytest.raises(BodyError, match="b cannot be read"):
        body["b"]


@given(st.dictionaries(KEYS, st.integers(0, 9), min_size=1, max_size=4), st.booleans(), st.data())
@settings(max_examples=80)
def test_a_key_twice_is_refused_or_gone(values: dict[str, int], compact: bool, data: st.DataObject) -> None:
    """An engine must never see another value than the router did."""
    twice = data.draw(st.sampled_from(sorted(values)))
    comma, colon = (",", ":") if compact else (", ", ": ")
    members = [f"{json.dumps(key)}{colon}{value}" for key, value in [*values.items(), (twice, 7)]]
    try:
        body = parse_object(("{" + comma.join(members) + "}").encode())
    except BodyError:
        return
    assert body.encode().decode().count(json.dumps(twice) + ": ") == 1


@given(st.binary(max_size=40) | st.text('{}[]",:0e-.\\tna ', max_size=30).map(str.encode))
@settings(max_examples=150)
def test_agrees_with_the_standard_parser_on_what_is_json(data: bytes) -> None:
    try:
        expected = json.loads(data.decode())
    except ValueError:
        expected = None
    try:
        body = parse_object(data).as_dict()
    except BodyError:
        return
    assert body == expected
