"""Streams are cut at event boundaries however the network cut them."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem_router.sse import (
    MAX_EVENT_BYTES,
    EventReader,
    SseError,
    Usage,
    error_of,
    find_usage,
    opens_answer,
    split_events,
    with_cached_tokens,
)


def event(payload: object) -> bytes:
    return b"data: " + json.dumps(payload).encode() + b"\n\n"


ROLE = event(
    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}
)
TOKEN = event({"choices": [{"index": 0, "delta": {"content": 'a "usage": {"completion_tokens": 9} \n\n'}}]})
TEXT = event({"choices": [{"index": 0, "text": " b", "finish_reason": None}], "usage": None})
USAGE = event({"choices": [], "usage": {"prompt_tokens": 7, "total_tokens": 9, "completion_tokens": 2}})
ERROR = event({"error": {"message": "Internal server error", "code": 500}})
DONE = b"data: [DONE]\n\n"


def read(pieces: list[bytes], *, drop_usage: bool) -> tuple[bytes, EventReader]:
    reader = EventReader(drop_usage=drop_usage)
    return b"".join([reader.feed(piece) for piece in pieces]), reader


@given(
    st.lists(st.sampled_from([ROLE, TOKEN, TEXT, b": ping\n\n"]), max_size=5),
    st.lists(st.integers(0, 2000), max_size=8),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=100)
def test_any_cut_gives_the_same_stream(
    events: list[bytes], cuts: list[int], drop_usage: bool, crlf: bool
) -> None:
    data = b"".join(events) + USAGE + DONE
    expected = b"".join(events) + (b"" if drop_usage else USAGE) + DONE
    if crlf:
        data, expected = data.replace(b"\n", b"\r\n"), expected.replace(b"\n", b"\r\n")
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in pairwise(places)]
    forwarded, reader = read(pieces, drop_usage=drop_usage)
    assert forwarded == expected
    assert reader.usage == Usage(7, 2)
    assert reader.done
    assert not reader.error


def test_usage_on_every_event_is_read_and_kept() -> None:
    running = event({"choices": [{"text": "x"}], "usage": {"prompt_tokens": 7, "completion_tokens": 1}})
    forwarded, reader = read([running + USAGE], drop_usage=True)
    assert forwarded == running
    assert reader.usage == Usage(7, 2)


def test_an_error_on_the_way_is_noticed_and_passed_on() -> None:
    forwarded, reader = read([TOKEN, ERROR + DONE], drop_usage=True)
    assert forwarded == TOKEN + ERROR + DONE
    assert reader.error


def test_text_about_errors_is_none() -> None:
    _, reader = read(
        [event({"choices": [{"text": 'data: {"error": 1} [DONE]\n\ndata: [DONE]'}]})], drop_usage=True
    )
    assert not reader.error
    assert not reader.done


def test_an_unfinished_event_is_never_forwarded() -> None:
    forwarded, reader = read([TOKEN, TOKEN[:-1]], drop_usage=False)
    assert forwarded == TOKEN
    assert not reader.done


def test_an_endless_event_is_refused() -> None:
    reader = EventReader(drop_usage=False)
    assert reader.feed(b"x" * MAX_EVENT_BYTES) == b""
    with pytest.raises(SseError):
        reader.feed(b"x")


@pytest.mark.parametrize(
    "sent", [ROLE, b": ping\n\n", event({"choices": [{"delta": {"role": "assistant"}}]})]
)
def test_what_comes_before_the_first_token(sent: bytes) -> None:
    assert not opens_answer(sent)


@pytest.mark.parametrize(
    "sent",
    [
        TOKEN,
        TEXT,
        USAGE,
        DONE,
        event({"choices": [{"delta": {"role": "assistant", "content": "a"}}]}),
        event({"choices": [{"delta": {"tool_calls": [{"index": 0}]}}]}),
        event({"choices": [{"delta": {"content": ""}, "finish_reason": "stop"}]}),
    ],
)
def test_what_opens_an_answer(sent: bytes) -> None:
    assert opens_answer(sent)


def test_errors_are_read_with_their_code() -> None:
    assert error_of(ERROR) == {"message": "Internal server error", "code": 500}
    assert error_of(b'event: error\ndata: {"error": "odd"}\n\n') == {"message": "odd"}
    assert error_of(TOKEN) is None


def test_usage_of_a_whole_answer() -> None:
    body = json.dumps(
        {"choices": [{"text": '"usage": {"prompt_tokens": 1, "completion_tokens": 1}'}]}
    ).encode()
    assert find_usage(body) is None
    assert find_usage(body[:-1] + b', "usage": {"prompt_tokens": 3, "completion_tokens": 4}}') == Usage(3, 4)


def test_split_gives_back_every_byte() -> None:
    data = ROLE + TOKEN.replace(b"\n", b"\r\n") + DONE
    assert b"".join(split_events(data)) == data
    assert len(split_events(data)) == 3


def test_a_usage_of_null_is_none() -> None:
    sent = event({"choices": [{"text": "x"}], "usage": None})
    forwarded, reader = read([sent], drop_usage=True)
    assert forwarded == sent
    assert reader.usage is None


@pytest.mark.parametrize(
    "told", [{}, {"prompt_tokens_details": None}, {"prompt_tokens_details": {"cached_tokens": 7, "audio": 1}}]
)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_cached_tokens_are_those_of_the_prefill_worker(told: dict[str, object], separators: object) -> None:
    usage = {"prompt_tokens": 7, "total_tokens": 9, "completion_tokens": 2, **told}
    text = '"usage": {"prompt_tokens_details": null}'
    payload = {"choices": [{"text": text}], "usage": usage, "later": {"a": 1}}
    data = b"data: " + json.dumps(payload, separators=separators).encode() + b"\n\n"  # type: ignore[arg-type]
    reader = EventReader(drop_usage=False, cached_tokens=3)
    changed = json.loads(reader.feed(data)[6:])
    details = (told.get("prompt_tokens_details") or {}) | {"cached_tokens": 3}  # type: ignore[operator]
    assert changed == payload | {"usage": usage | {"prompt_tokens_details": details}}
    assert reader.usage == Usage(7, 2, 3)


def test_an_answer_without_usage_stays_as_it_is() -> None:
    assert with_cached_tokens(TOKEN, 3) == TOKEN
