"""Keys, limits, names of models and salts."""

import json
import logging
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem_router.access.bucket import new_bucket
from tandem_router.access.desk import Caller, Desk
from tandem_router.access.keys import KeyRing, KeysError, parse_keys
from tandem_router.access.keys_file import CHECK_SECONDS, KeysFile
from tandem_router.access.names import Names
from tandem_router.command import command
from tandem_router.errors import ApiError
from tandem_router.openai import Api, Asker, ParsedRequest, parse_request
from tandem_router.sse import Usage
from tandem_wire.router_settings import Access, RouterSettings, ServiceClass

SECRET = "sk-secret-of-acme"
OTHER = "sk-secret-of-umbrella"


def entry(key: str = SECRET, tenant: str = "acme", **more: Any) -> dict[str, Any]:
    return {"key": key, "tenant": tenant, **more}


def ring(*entries: dict[str, Any]) -> KeyRing:
    return parse_keys(json.dumps({"keys": entries}))


class Fixed:
    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys

    def ring(self, _now: float) -> KeyRing:
        return self._keys


def desk(*entries: dict[str, Any], **access: Any) -> Desk:
    known = RouterSettings(classes=(ServiceClass(name="batch"),), access=Access(**access))
    return Desk(known, Fixed(ring(*entries)) if entries else None)


def bearer(key: str = SECRET) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def parsed(model: str = "m", prompt: str = "hi", **more: Any) -> ParsedRequest:
    body = {"model": model, "prompt": prompt, **more}
    return parse_request(Api.COMPLETION, json.dumps(body).encode(), "r1")


def refused(status: int, code: str) -> Any:
    class Refused:
        def __enter__(self) -> "Refused":
            return self

        def __exit__(self, _kind: Any, error: Any, _trace: Any) -> bool:
            assert isinstance(error, ApiError), "it was not refused"
            self.error = error
            assert (error.status, error.code) == (status, code)
            return True

    return Refused()


def test_a_key_is_found_by_its_text_however_it_is_written_down() -> None:
    hashed = {"sha256": sha256(OTHER.encode()).hexdigest(), "tenant": "umbrella"}
    keys = ring(entry(), hashed)
    found = [
        keys.find(sent)
        for sent in (SECRET, OTHER, "sk-unknown", "", "\udcff".encode("utf-8", "ignore").decode())
    ]
    assert [key and key.tenant for key in found] == ["acme", "umbrella", None, None, None]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("keys: [", "no YAML"),
        ("[]", "dictionary"),
        ("{}", "keys: Field required"),
        ('{"keys": [{"tenant": "a"}]}', "either key or sha256"),
        ('{"keys": [{"tenant": "a", "key": "short"}]}', r"keys.0.key"),
        (
            f'{{"keys": [{{"tenant": "a", "key": "{SECRET}", "sha256": "{"0" * 64}"}}]}}',
            "either key or sha256",
        ),
        ('{"keys": [{"tenant": "a", "sha256": "abc"}]}', r"keys.0.sha256"),
        (f'{{"keys": [{{"key": "{SECRET}"}}]}}', r"keys.0.tenant"),
        (json.dumps({"keys": [entry(), entry(tenant="b")]}), "twice"),
        (json.dumps({"keys": [entry(requestsPerMinute=0)]}), "requestsPerMinute"),
        (json.dumps({"keys": [entry(oops=1)]}), "oops"),
    ],
)
def test_a_bad_file_is_refused_without_showing_a_secret(text: str, complaint: str) -> None:
    with pytest.raises(KeysError, match=complaint) as caught:
        parse_keys(text)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_keys_are_read_again_when_the_file_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(json.dumps({"keys": [entry()]}))
    file = KeysFile(path)
    caplog.set_level(logging.INFO)

    def rewrite(text: str) -> None:
        new = tmp_path / "new"
        new.write_text(text)
        new.replace(path)

    assert file.ring(1.0).find(SECRET)
    rewrite(json.dumps({"keys": [entry(OTHER)]}))
    assert file.ring(1.0 + CHECK_SECONDS).find(SECRET) is None
    rewrite(f"keys: [{SECRET}")
    assert file.ring(1.0 + 2 * CHECK_SECONDS).find(OTHER)
    path.unlink()
    assert file.ring(1.0 + 3 * CHECK_SECONDS).find(OTHER)
    assert SECRET not in caplog.text
    with pytest.raises(OSError, match="No such file"):
        KeysFile(path)


def test_who_asks_without_keys() -> None:
    headers = {"x-llm-d-inference-fairness-id": "acme", "x-tandem-class": "batch", "x-tandem-session": "s"}
    assert desk().caller(headers, 0.0) == Caller(Asker("acme", "batch", "s"))
    assert desk().caller({"authorization": "Bearer anything"}, 0.0) == Caller(Asker())
    with refused(400, "unknown_class") as caught:
        desk().caller({"x-tandem-class": "gold"}, 0.0)
    assert "batch" in caught.error.message


@pytest.mark.parametrize("headers", [bearer(), {"authorization": f"bearer  {SECRET}"}, {"x-api-key": SECRET}])
def test_who_asks_with_a_key(headers: dict[str, str]) -> None:
    """A tenant is what the key says, whatever the client says."""
    door = desk(entry(**{"class": "batch"}))
    caller = door.caller(headers | {"x-llm-d-inference-fairness-id": "forged"}, 0.0)
    assert caller.asker == Asker("acme", "batch", "")
    assert door.caller(headers | {"x-tandem-class": "default"}, 0.0).asker.service_class == "default"


@pytest.mark.parametrize(
    "headers", [{}, bearer("sk-wrong-key"), {"authorization": f"Basic {SECRET}"}, bearer("")]
)
def test_without_a_known_key_nobody_gets_in(headers: dict[str, str]) -> None:
    with refused(401, "invalid_api_key") as caught:
        desk(entry()).caller(headers, 0.0)
    assert "wrong" not in caught.error.message


def test_a_key_for_some_models_only() -> None:
    door = desk(entry(models=["m", "alias"]))
    caller = door.caller(bearer(), 0.0)
    assert door.admit(caller, parsed(), 0.0) == {}
    with refused(403, "model_not_allowed"):
        door.admit(caller, parsed("other"), 0.0)
    assert door.known(caller, ["m", "other"]) == ["m"]


def test_requests_are_limited_by_the_minute() -> None:
    door = desk(entry(requestsPerMinute=2), entry(OTHER))
    caller = door.caller(bearer(), 0.0)
    assert door.admit(caller, parsed(), 0.0)["x-ratelimit-remaining-requests"] == "1"
    assert door.admit(caller, parsed(), 0.0)["x-ratelimit-remaining-requests"] == "0"
    with refused(429, "rate_limited") as caught:
        door.admit(caller, parsed(), 0.0)
    assert caught.error.retry_after == 30
    assert caught.error.headers["x-ratelimit-limit-requests"] == "2"
    assert caught.error.headers["x-ratelimit-reset-requests"] == "60.000s"
    assert door.admit(caller, parsed(), 30.0)
    assert door.admit(door.caller(bearer(OTHER), 0.0), parsed(), 0.0) == {}


def test_tokens_are_counted_as_they_were_used() -> None:
    door = desk(entry(tokensPerMinute=100))
    caller, request = door.caller(bearer(), 0.0), parsed(prompt="word " * 40)
    tokens = request.info.prompt_tokens
    assert 40 < tokens < 80
    assert door.admit(caller, request, 0.0)["x-ratelimit-remaining-tokens"] == str(100 - tokens)
    door.settle(caller, request, Usage(100, 30), 0.0)
    with refused(429, "rate_limited") as caught:
        door.admit(caller, parsed(), 0.0)
    assert "tokens" in caught.error.message
    assert 18 <= caught.error.retry_after <= 25
    assert door.admit(caller, parsed(), 25.0)


def test_a_refused_request_takes_nothing() -> None:
    door = desk(entry(requestsPerMinute=5, tokensPerMinute=10))
    caller = door.caller(bearer(), 0.0)
    door.settle(caller, parsed(), Usage(11, parsed().info.prompt_tokens), 0.0)
    with refused(429, "rate_limited") as caught:
        door.admit(caller, parsed(), 0.0)
    assert caught.error.headers["x-ratelimit-remaining-requests"] == "5"


@given(st.lists(st.tuples(st.floats(0, 30), st.floats(1, 40)), max_size=30))
@settings(max_examples=60)
def test_no_bucket_gives_more_than_flows_in(steps: list[tuple[float, float]]) -> None:
    bucket, now, taken = new_bucket(60, 0.0), 0.0, 0.0
    for pause, amount in steps:
        now += pause
        if (wait := bucket.wait(amount, now)) == 0:
            bucket.take(amount, now)
            taken += amount
        else:
            assert replace(bucket).wait(amount, now + wait + 1e-6) < 1e-3
        assert taken <= 60 + now + 1e-6


ALIASES = {
    "aliases": [{"name": "chat", "models": [{"model": "m", "weight": 9}, {"model": "sql", "weight": 1}]}],
    "adapters": [{"name": "sql", "model": "base"}],
}


def test_an_alias_shares_sessions_out_by_weight() -> None:
    names = Names(Access.model_validate(ALIASES))
    given = [names.resolve("chat", f"session-{index}") for index in range(2000)]
    assert {named.served for named in given} == {"m", "sql"}
    assert 130 < sum(named.adapter == "sql" for named in given) < 270
    again = [names.resolve("chat", f"session-{index}") for index in range(2000)]
    assert again == given


def test_an_adapter_is_served_by_the_workers_of_its_base() -> None:
    names = Names(Access.model_validate(ALIASES))
    data = json.dumps({"model": "sql", "prompt": "hi"}).encode()
    request = parse_request(Api.COMPLETION, data, "r1", names=names)
    assert (request.info.model, request.info.adapter, request.name) == ("base", "sql", "sql")
    assert request.body["model"] == "sql"
    assert names.resolve("m", "x") == ("m", "m", "")
    assert names.known(["m"]) == ["m", "chat"]
    assert names.known(["base"]) == ["base", "chat", "sql"]


def test_an_alias_is_replaced_in_the_body() -> None:
    names = Names(Access.model_validate({"aliases": [{"name": "chat", "models": [{"model": "m"}]}]}))
    request = parse_request(Api.COMPLETION, b'{"model": "chat", "prompt": "hi"}', "r1", names=names)
    assert (request.info.model, request.body.encode()) == ("m", b'{"model": "m", "prompt": "hi"}')


def test_tenants_have_their_own_salts() -> None:
    door = desk(entry(), entry(OTHER, "umbrella"))
    acme, umbrella = (door.caller(bearer(key), 0.0) for key in (SECRET, OTHER))
    salts = [
        door.salted(caller, parsed(**own)).body["cache_salt"]
        for caller in (acme, umbrella)
        for own in ({}, {"cache_salt": "mine"})
    ]
    assert len(set(salts)) == 4
    assert door.salted(acme, parsed()).body["cache_salt"] == salts[0]
    assert "acme" not in salts[0]


def test_no_salt_without_keys_or_when_switched_off() -> None:
    request = parsed(cache_salt="mine")
    assert desk().salted(Caller(Asker()), request) is request
    door = desk(entry(), cacheSalt=False)
    assert door.salted(door.caller(bearer(), 0.0), request) is request


@pytest.mark.parametrize(
    ("content", "arguments", "complaint"),
    [
        (json.dumps({"keys": [entry(oops=SECRET)]}), ["--api-keys", "FILE"], "oops"),
        ("", ["--settings", '{"access": {"keysSecret": "team-keys"}}'], "--api-keys"),
    ],
)
def test_a_router_without_its_keys_does_not_start(
    content: str, arguments: list[str], complaint: str, tmp_path: Path
) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text(content)
    given = [str(file) if argument == "FILE" else argument for argument in arguments]
    result = CliRunner().invoke(command, ["--discovery", f"file:{tmp_path}/none", "--port", "0", *given])
    assert result.exit_code == 1
    last = result.output.splitlines()[-1]
    assert last.startswith("Error: the API keys cannot be used")
    assert complaint in last
    assert SECRET not in result.output
