"""Typed reading of a JSON object that somebody else wrote: every error names the file and the field."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tandem_worker.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of a JSON object of `path`. A null counts as absent. Getters raise `CheckpointError`."""

    data: dict[str, Any]
    path: Path

    def __bool__(self) -> bool:
        return bool(self.data)

    def error(self, problem: str) -> CheckpointError:
        return CheckpointError(f"{self.path}: {problem}")

    def get(self, name: str, default: object = None) -> Any:
        value = self.data.get(name)
        return default if value is None else value

    def count(self, name: str, default: int | None = None) -> int:
        """An integer of at least 1."""
        value = self.get(name, default)
        if type(value) is not int or value < 1:
            raise self.error(f"{name} is {value!r}: it must be an integer of at least 1")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A number above 0."""
        value = self.get(name, default)
        if type(value) not in (int, float) or not 0 < value < float("inf"):
            raise self.error(f"{name} is {value!r}: it must be a number above 0")
        return float(value)

    def flag(self, name: str) -> bool:
        value = self.get(name, False)
        if type(value) is not bool:
            raise self.error(f"{name} is {value!r}: it must be true or false")
        return value

    def section(self, name: str) -> "Fields":
        """A nested object; an empty one when it is absent."""
        value = self.get(name, {})
        if not isinstance(value, dict):
            raise self.error(f"{name} is {value!r}: it must be an object")
        return Fields(value, self.path)

    def token_ids(self, name: str) -> frozenset[int] | None:
        """One token id or a list of them; None when absent."""
        value = self.get(name)
        ids = value if isinstance(value, list) else [value]
        if value is None:
            return None
        if not all(type(token_id) is int and token_id >= 0 for token_id in ids):
            raise self.error(f"{name} is {value!r}: it must be a token id or a list of them")
        return frozenset(ids)
