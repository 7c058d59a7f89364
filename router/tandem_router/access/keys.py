"""API keys: how they are written down, and which one a request carries. Pure.

A keys file is YAML or JSON: `{keys: [{key: sk-..., tenant: acme, models: [llama], class: batch,
requestsPerMinute: 60, tokensPerMinute: 100000}]}`, or with the key's SHA-256 in hex as `sha256` instead.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel


class KeysError(ValueError):
    """The keys file cannot be used. Says where, never what stands there."""


@dataclass(frozen=True, slots=True)
class Key:
    """What one key allows. `models` empty: every model; limits None: no limit."""

    digest: bytes
    tenant: str
    models: frozenset[str]
    service_class: str
    requests_per_minute: int | None
    tokens_per_minute: int | None

    def allows(self, model: str) -> bool:
        return not self.models or model in self.models


class _Entry(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")

    key: Annotated[SecretStr, Field(min_length=8, max_length=512)] | None = None
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None
    tenant: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    models: list[Annotated[str, StringConstraints(min_length=1)]] = []
    service_class: str = Field(default="", alias="class")
    requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    tokens_per_minute: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _is_one_key(self) -> "_Entry":
        if (self.key is None) == (self.sha256 is None):
            raise ValueError("has either key or sha256")
        return self


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: list[_Entry]


class KeyRing:
    """The keys by the digests of what clients send."""

    def __init__(self, keys: Mapping[bytes, Key]) -> None:
        self._keys = keys

    def find(self, sent: str) -> Key | None:
        """The digests are looked up, not the secrets, so that the time it takes tells nothing of them."""
        digest = sha256(sent.encode()).digest()
        key = self._keys.get(digest)
        return key if key is not None and hmac.compare_digest(key.digest, digest) else None

    def __len__(self) -> int:
        return len(self._keys)


def parse_keys(text: str) -> KeyRing:
    """Raises KeysError."""
    try:
        entries = _File.model_validate(yaml.safe_load(text)).keys
    except yaml.YAMLError:
        raise KeysError("it is no YAML") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise KeysError(f"{place}: {first['msg'].removeprefix('Value error, ')}") from None
    keys = {}
    for index, entry in enumerate(entries):
        key = _key(entry)
        if key.digest in keys:
            raise KeysError(f"keys.{index}: the same key is there twice")
        keys[key.digest] = key
    return KeyRing(keys)


def _key(entry: _Entry) -> Key:
    secret = entry.key.get_secret_value() if entry.key is not None else ""
    return Key(
        bytes.fromhex(entry.sha256) if entry.sha256 else sha256(secret.encode()).digest(),
        entry.tenant,
        frozenset(entry.models),
        entry.service_class,
        entry.requests_per_minute,
        entry.tokens_per_minute,
    )
