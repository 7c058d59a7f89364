"""Access as one request meets it: who asks, whether they may, and what they took in the end."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple, Protocol

from tandem_router.access.keys import Key, KeyRing
from tandem_router.access.limits import Limits
from tandem_router.access.names import Names
from tandem_router.errors import ApiError, forbidden, invalid, unauthorized
from tandem_router.openai import Asker, ParsedRequest
from tandem_router.sse import Usage
from tandem_wire.router_settings import RouterSettings

DEFAULT_CLASS = "default"
TENANT = "x-llm-d-inference-fairness-id"
MAX_NAME = 256


class Keys(Protocol):
    def ring(self, now: float, /) -> KeyRing: ...


class Caller(NamedTuple):
    """Who asks. `key` None: no keys are configured."""

    asker: Asker
    key: Key | None = None


class Desk:
    """Everything of the settings that says who may ask for what. `keys` None: everybody may."""

    def __init__(self, settings: RouterSettings | None = None, keys: Keys | None = None) -> None:
        settings = settings or RouterSettings()
        self.names = Names(settings.access)
        self._keys = keys
        self._salts = settings.access.cache_salt
        self._classes = {DEFAULT_CLASS, *(each.name for each in settings.classes)}
        self._limits = Limits()

    def caller(self, headers: Mapping[str, str], now: float) -> Caller:
        """From the headers, by names in lower case. Raises ApiError (401, or 400 for an unknown class)."""
        key = self._key(headers, now)
        tenant = headers.get(TENANT, "")[:MAX_NAME] if key is None else key.tenant
        name = headers.get("x-tandem-class") or (key.service_class if key is not None else "")
        if name and name not in self._classes:
            known = ", ".join(sorted(self._classes))
            raise invalid(f"x-tandem-class: there is no class {name!r}; known: {known}", code="unknown_class")
        return Caller(Asker(tenant, name, headers.get("x-tandem-session", "")[:MAX_NAME]), key)

    def admit(self, caller: Caller, parsed: ParsedRequest, now: float) -> Mapping[str, str]:
        """Whether the caller may ask for this model now: headers to answer with.

        Raises ApiError (403 or 429).
        """
        if caller.key is None:
            return {}
        if not caller.key.allows(parsed.name):
            raise forbidden(parsed.name)
        return self._limits.admit(caller.key, parsed.info.prompt_tokens, now)

    def settle(self, caller: Caller, parsed: ParsedRequest, usage: Usage | None, now: float) -> None:
        """Counts the tokens that a request took; without usage it took its prompt."""
        if caller.key is not None and usage is not None:
            used = usage.prompt_tokens + usage.output_tokens
            self._limits.settle(caller.key, parsed.info.prompt_tokens, used, now)

    def salted(self, caller: Caller, parsed: ParsedRequest) -> ParsedRequest:
        """The request with a salt of its tenant's: prefix caches are shared within a tenant only."""
        if caller.key is None or not self._salts:
            return parsed
        own = bytes(parsed.body.raw("cache_salt")) if "cache_salt" in parsed.body else b""
        salt = _salt(caller.key.tenant, own)
        return replace(parsed, body=parsed.body.with_values({"cache_salt": salt}))

    def known(self, caller: Caller, models: Iterable[str]) -> list[str]:
        """The names that the caller may ask for."""
        names = self.names.known(models)
        return names if caller.key is None else [name for name in names if caller.key.allows(name)]

    def _key(self, headers: Mapping[str, str], now: float) -> Key | None:
        if self._keys is None:
            return None
        scheme, _, sent = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            sent = headers.get("x-api-key", "")
        if not sent.strip():
            raise unauthorized("send an API key: Authorization: Bearer KEY")
        key = self._keys.ring(now).find(sent.strip())
        if key is None:
            raise unauthorized("the API key is not known here")
        return key


def model_not_found(name: str) -> ApiError:
    return ApiError(404, f"the model {name!r} does not exist", "model_not_found", "model")


@lru_cache(maxsize=4096)
def _salt(tenant: str, own: bytes) -> str:
    return sha256(tenant.encode() + b"\0" + own).hexdigest()[:32]


def model_card(name: str) -> dict[str, object]:
    """A model as both OpenAI's and Anthropic's clients read it."""
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "tandem",
        "type": "model",
        "display_name": name,
        "created_at": "1970-01-01T00:00:00Z",
    }
