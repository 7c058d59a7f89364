"""A JSON object that is parsed once and edited by splicing: what is not named stays byte for byte as it was.

Rebuilding a body would lose integer precision, number spelling and key order somewhere, and costs more.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_WS = r"[ \t\n\r]*"
_SPACE = re.compile(_WS)
_OPEN = re.compile(rf"{_WS}\{{{_WS}")
_COLON = re.compile(rf"{_WS}:{_WS}")
_SIMPLE_KEY = re.compile(rf'"([^"\\\x00-\x1f]*)"{_WS}:{_WS}')
_SEPARATOR = re.compile(rf"{_WS}(?:(,){_WS}|\}})")


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

    def with_members(self, members: Mapping[str, Member]) -> "JsonBody":
        """A copy with these members, each in its old place or at the end."""
        return JsonBody({**self._members, **members})

    def with_values(self, values: Mapping[str, Any]) -> "JsonBody":
        return self.with_members(new_members(values))

    def as_dict(self) -> dict[str, Any]:
        return {key: member.value for key, member in self._members.items()}

    def encode(self) -> bytes:
        text = "{" + ", ".join([member.text for member in self._members.values()]) + "}"
        return text.encode("utf-8")


def new_members(values: Mapping[str, Any]) -> dict[str, Member]:
    return {key: Member(f"{json.dumps(key)}: {json.dumps(value)}", value) for key, value in values.items()}


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
    start = _OPEN.match(text)
    if start is None:
        raise BodyError("the body must be a JSON object")
    members: dict[str, Member] = {}
    position = start.end()
    if text[position : position + 1] == "}":
        position += 1
    else:
        position = _fill(text, position, members)
    if _SPACE.fullmatch(text, position) is None:
        raise json.JSONDecodeError("Extra data", text, position)
    return members


def _fill(text: str, position: int, members: dict[str, Member]) -> int:
    """Reads members from the first key on; returns the position after the closing brace."""
    while True:
        start = position
        key, position = _key(text, position)
        value, position = _decode(text, position)
        if key in members:
            raise BodyError(f"the key {key!r} appears twice")
        members[key] = Member(text[start:position], value)
        separator = _SEPARATOR.match(text, position)
        if separator is None:
            raise json.JSONDecodeError("Expecting ',' or '}'", text, position)
        position = separator.end()
        if separator[1] is None:
            return position


def _key(text: str, position: int) -> tuple[str, int]:
    """A key, and where its value starts."""
    simple = _SIMPLE_KEY.match(text, position)
    if simple is not None:
        return simple[1], simple.end()
    if text[position : position + 1] != '"':
        raise json.JSONDecodeError("Expecting a property name in double quotes", text, position)
    key, position = _decode(text, position)
    colon = _COLON.match(text, position)
    if colon is None:
        raise json.JSONDecodeError("Expecting ':'", text, position)
    return key, colon.end()
