"""Small values: headers, ids, durations, load, errors, the directory of workers."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem_router.directory import Directory
from tandem_router.durations import parse_duration
from tandem_router.errors import no_worker
from tandem_router.headers import attempt_id, forwarded, request_ids
from tandem_router.loads import LoadBook
from tandem_router.types import Endpoint, Load, Role


def worker(name: str, role: str, **changes: Any) -> Endpoint:
    values = {"address": "10.0.0.1", "model": "m", "revision": "1"} | changes
    return Endpoint(name=name, port=8100, role=Role(role), pool="x", engine="native", **values)


def test_only_tracing_headers_reach_workers() -> None:
    given = {
        "traceparent": "00-a",
        "authorization": "secret",
        "x-prefiller-host-port": "10.0.0.1:1",
        "cookie": "c",
    }
    assert forwarded(given) == {"traceparent": "00-a"}


@pytest.mark.parametrize("given", [None, "", "a b", "x" * 129, "é", "a\tb"])
def test_unusable_request_ids_are_replaced(given: str | None) -> None:
    assert request_ids(given, lambda: "new") == ("new", "new")


def test_a_client_that_repeats_its_id_gets_it_back_and_workers_see_it_once() -> None:
    ids = iter(["1" * 32, "2" * 32])
    first, second = (request_ids("mine", lambda: next(ids)) for _ in range(2))
    assert first[0] == second[0] == "mine"
    assert first[1].startswith("mine-")
    assert first[1] != second[1]


def test_attempts_have_ids_of_their_own() -> None:
    assert [attempt_id("r", n) for n in (1, 2, 3)] == ["r", "r-a2", "r-a3"]


@pytest.mark.parametrize(("text", "seconds"), [("500ms", 0.5), ("1.5s", 1.5), ("2m", 120.0), ("1h", 3600.0)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "-1s", "0s", "0.0ms", "1d", "1 s", "1e3s", "nan", "٣s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no duration"):
        parse_duration(text)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9)), max_size=20), st.randoms())
@settings(max_examples=80)
def test_load_returns_to_nothing_when_all_has_ended(held: list[tuple[str, int]], random: Any) -> None:
    book = LoadBook()
    for name, tokens in held:
        book.begin(name, tokens)
    for name in "ab":
        mine = [tokens for other, tokens in held if other == name]
        assert book.get(name, Load()) == Load(len(mine), sum(mine))
    random.shuffle(held)
    for name, tokens in held:
        book.end(name, tokens)
    assert dict(book) == {}


def test_load_that_was_never_taken_cannot_be_given_back() -> None:
    with pytest.raises(ValueError, match="no such request"):
        LoadBook().end("a", 1)


def test_errors_have_the_shape_of_the_api() -> None:
    error = no_worker("m", "no_ready_worker")
    body = json.loads(error.encode())["error"]
    assert (error.status, error.retry_after) == (503, 5)
    assert body.keys() == {"message", "type", "param", "code"}
    assert (body["type"], body["code"]) == ("server_error", "no_ready_worker")


@pytest.mark.parametrize(
    ("endpoints", "serves"),
    [
        ([], False),
        ([worker("p", "prefill")], False),
        ([worker("p", "prefill"), worker("d", "decode", ready=False)], False),
        ([worker("d", "decode")], True),
        ([worker("d", "decode", model="other")], True),
    ],
)
def test_ready_means_that_some_path_exists(endpoints: list[Endpoint], serves: bool) -> None:
    directory = Directory("m")
    directory.publish(endpoints)
    assert directory.serves() is serves


def test_the_configured_model_is_known_before_its_workers() -> None:
    directory = Directory("m")
    assert list(directory.models) == ["m"]
    directory.publish([worker("d", "decode", model="other", address="10.0.0.2")])
    assert list(directory.models) == ["m", "other"]
    assert directory.knows_address("10.0.0.2")
    assert not directory.knows_address("10.0.0.1")
