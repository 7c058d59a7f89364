"""A JSON object that is parsed once and edited by splicing: what is not named keeps its bytes.

Rebuilding a body would lose integer precision or number spelling somewhere, and costs more.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from tandem_router.nesting import MAX_NESTING, too_deep

_members_of: Callable[[bytes], dict[str, Any]] = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_value_of = msgspec.json.Decoder().decode
_key_text = msgspec.json.Encoder().encode


class BodyError(ValueError):
    """The body is not one JSON object with unique keys."""


class Member(NamedTuple):
    """A value in JSON, and the value itself."""

    raw: bytes
    value: Any


class JsonBody(Mapping[str, Any]):
    """Top-level keys to values, read when asked for; `encode` gives the bytes."""

    __slots__ = ("_raw", "_values")

    def __init__(self, raw: dict[str, msgspec.Raw | bytes], values: dict[str, Any] | None = None) -> None:
        self._raw = raw
        self._values = {} if values is None else values

    def __getitem__(self, key: str) -> Any:
        """Raises BodyError for a number that no value can hold."""
        values = self._values
        if key not in values:
            try:
                values[key] = _value_of(self._raw[key])
            except (ValueError, RecursionError) as error:
                raise BodyError(f"{key} cannot be read: {error}") from error
        return values[key]

    def __contains__(self, key: object) -> bool:
        return key in self._raw

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)

    def raw(self, key: str) -> msgspec.Raw | bytes:
        """The value of `key` as it was written."""
        return self._raw[key]

    def without(self, *keys: str) -> "JsonBody":
        return JsonBody(_left(self._raw, keys), _left(self._values, keys))

    def with_members(self, members: Mapping[str, Member]) -> "JsonBody":
        """A copy with these members, each in its old place or at the end."""
        raw, values = self._raw.copy(), self._values.copy()
        for key, member in members.items():
            raw[key], values[key] = member
        return JsonBody(raw, values)

    def with_values(self, values: Mapping[str, Any]) -> "JsonBody":
        return self.with_members(new_members(values))

    def as_dict(self) -> dict[str, Any]:
        return {key: self[key] for key in self._raw}

    def encode(self) -> bytes:
        parts: list[bytes | msgspec.Raw] = []
        before = b"{"
        for key, raw in self._raw.items():
            parts += (before, _key_text(key), b": ", raw)
            before = b", "
        parts.append(b"}" if parts else b"{}")
        return b"".join(parts)


def new_members(values: Mapping[str, Any]) -> dict[str, Member]:
    return {key: Member(msgspec.json.encode(value), value) for key, value in values.items()}


def parse_object(data: bytes) -> JsonBody:
    """Parses one JSON object. Raises BodyError for anything else, with the place where there is one.

    Refused too: a key twice at the top level, NaN and infinities, and nesting deeper than MAX_NESTING.
    """
    try:
        if not data.isascii():
            data.decode()
        raw: dict[str, msgspec.Raw | bytes] = _members_of(data)
    except UnicodeDecodeError as error:
        raise BodyError(f"the body is not UTF-8 (byte {error.start})") from error
    except msgspec.ValidationError as error:
        raise BodyError("the body must be a JSON object") from error
    except msgspec.DecodeError as error:
        raise BodyError(str(error)) from error
    except RecursionError as error:
        raise BodyError("the body is nested too deeply") from error
    if too_deep(data):
        raise BodyError(f"the body is nested deeper than {MAX_NESTING} levels")
    if not _accounts_for(raw, len(data)):
        _refuse_repeats(data)
    return JsonBody(raw)


def _accounts_for(raw: Mapping[str, msgspec.Raw | bytes], size: int) -> bool:
    """Whether the members are the whole text, written as JSON writers do: then no key was there twice."""
    count = len(raw)
    punctuation = 2 + 3 * count + max(0, count - 1)
    compact = punctuation + sum(map(len, raw)) + sum(map(len, raw.values()))
    return size == compact or (count > 0 and size == compact + 2 * count - 1)


def _refuse_repeats(data: bytes) -> None:
    """Raises BodyError for a key that is there twice at the top level; nested ones are the engine's."""
    last: list[str] = []

    def remember(pairs: Iterable[tuple[str, Any]]) -> None:
        last[:] = [key for key, _ in pairs]  # the outermost object is the last to be complete

    try:
        json.loads(data, object_pairs_hook=remember)
    except (ValueError, RecursionError) as error:
        raise BodyError(f"a number or the nesting of the body is out of bounds: {error}") from error
    seen: set[str] = set()
    for key in last:
        if key in seen:
            raise BodyError(f"the key {key!r} appears twice")
        seen.add(key)


def _left(items: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in items.items() if key not in keys}
