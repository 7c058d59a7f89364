"""A JSON object that is parsed once and edited by splicing: what is not named stays byte for byte as it was.

Rebuilding a body would lose integer precision, number spelling and key order somewhere, and costs more.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_SPACE = re.compile(r"[ \t\n\r]*")


class BodyError(ValueError):
    """The body is not one JSON object with unique keys."""


def _refuse_constant(name: str) -> Any:
    raise BodyError(f"{name} is not JSON")


_decode = json.JSONDecoder(parse_constant=_refuse_constant).raw_decode


@dataclass(frozen=True, slots=True)
class Member:
    """One `"key": value` of the top level: its text, and the parsed value."""

    text: str
    value: Any


class JsonBody(Mapping[str, Any]):
    """Top-level keys to parsed values; `edited` gives the bytes of a changed copy."""

    __slots__ = ("_members",)

    def __init__(self, members: dict[str, Member]) -> None:
        self._members = members

    def __getitem__(self, key: str) -> Any:
        return self._members[key].value

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def without(self, *keys: str) -> "JsonBody":
        return JsonBody({key: member for key, member in self._members.items() if key not in keys})

    def with_values(self, values: Mapping[str, Any]) -> "JsonBody":
        """A copy with these values, each in its old place or at the end."""
        return JsonBody(self._members | {key: _member(key, value) for key, value in values.items()})

    def encode(self) -> bytes:
        text = "{" + ", ".join([member.text for member in self._members.values()]) + "}"
        return text.encode("utf-8")


def _member(key: str, value: Any) -> Member:
    return Member(f"{json.dumps(key)}: {json.dumps(value)}", value)


def parse_object(data: bytes) -> JsonBody:
    """Parses one JSON object. Raises BodyError for anything else, with the place where there is one.

    Refused too: a key twice at the top level, NaN and infinities, numbers of thousands of digits, and nesting
    that is deeper than the interpreter's stack.
    """
    try:
        text = data.decode("utf-8")
        return JsonBody(_members_of(text))
    except UnicodeDecodeError as error:
        raise BodyError(f"the body is not UTF-8 (byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise BodyError(f"{error.msg} at line {error.lineno}, column {error.colno}") from error
    except RecursionError as error:
        raise BodyError("the body is nested too deeply") from error
    except BodyError:
        raise
    except ValueError as error:
        raise BodyError("a number in the body has too many digits") from error


def _members_of(text: str) -> dict[str, Member]:
    position = _skip(text, 0)
    if text[position : position + 1] != "{":
        raise BodyError("the body must be a JSON object")
    members: dict[str, Member] = {}
    position = _skip(text, position + 1)
    if text[position : position + 1] == "}":
        position += 1
    else:
        position = _fill(text, position, members)
    if _skip(text, position) != len(text):
        raise json.JSONDecodeError("Extra data", text, position)
    return members


def _fill(text: str, position: int, members: dict[str, Member]) -> int:
    """Reads members from the first key on; returns the position after the closing brace."""
    while True:
        start = position
        if text[position : position + 1] != '"':
            raise json.JSONDecodeError("Expecting a property name in double quotes", text, position)
        key, position = _decode(text, position)
        position = _skip(text, position)
        if text[position : position + 1] != ":":
            raise json.JSONDecodeError("Expecting ':'", text, position)
        value, position = _decode(text, _skip(text, position + 1))
        if key in members:
            raise BodyError(f"the key {key!r} appears twice")
        members[key] = Member(text[start:position], value)
        position = _skip(text, position)
        end = text[position : position + 1]
        if end == "}":
            return position + 1
        if end != ",":
            raise json.JSONDecodeError("Expecting ',' or '}'", text, position)
        position = _skip(text, position + 1)


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position
