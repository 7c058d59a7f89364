"""Streams that go on at another worker: wherever the first one was cut, the client gets the same answer."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from tandem_router.continuation import continuation_of
from tandem_router.continuation.base import Continuation, NotExactError
from tandem_router.continuation.emitted import RAW_BYTES, Emitted, Head, without_ids
from tandem_router.continuation.joint import closing
from tandem_router.continuation.reader import ResumableReader
from tandem_router.openai import Api, ParsedRequest, parse_request

PIECES = ["e", " ", "the", "日", "é", "!", "\n", " a", "b", "END", "N"]
BYTES = [f"<0x{byte:02X}>" for byte in "日é".encode()]
VOCABULARY = {piece: index for index, piece in enumerate([*PIECES, *BYTES])}
MAX_LENGTH = 400


def _tokenizer() -> Tokenizer:
    """Pieces of text, and bytes of two characters, so that many cuts are inside of a character."""
    backend = Tokenizer(models.BPE(VOCABULARY, [], byte_fallback=True))
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return backend


TOKENIZER = _tokenizer()


@dataclass
class VllmEngine:
    """What vLLM says: tokens that follow from all before, its detokeniser, its way with stop strings."""

    name: str
    tokens_per_event: int = 1
    asked: list[dict[str, Any]] = field(default_factory=list)

    def stream(self, api: Api, body: dict[str, Any], prompt: list[int]) -> Iterator[bytes]:
        self.asked.append(body)
        chat = api is Api.CHAT
        ids, shown = list(prompt), 0
        limit = body.get("max_completion_tokens") or body.get("max_tokens") or (None if chat else 16)
        limit = limit or MAX_LENGTH - len(prompt)
        stops = body.get("stop") or []
        stops = [stops] if isinstance(stops, str) else stops
        lag = max((len(s) for s in stops), default=1) - 1
        stream = decoders.DecodeStream(ids=list(prompt), skip_special_tokens=True)
        text, new, finish, told = "", [], None, False
        if chat:
            yield self._event(
                {"delta": {"role": "assistant", "content": ""}, "finish_reason": None}, chat, prompt
            )
        while finish is None:
            token = self._next(ids)
            ids.append(token)
            new.append(token)
            text += stream.step(TOKENIZER, token) or ""
            count = len(ids) - len(prompt)
            ends = [text.find(s) for s in stops if s in text]
            if ends and count > body.get("min_tokens", 0):
                text, finish = text[: min(ends)], "stop"
            elif count == limit:
                finish = "length"
            if finish is None and len(new) < self.tokens_per_event:
                continue
            until = len(text) if finish else max(shown, len(text) - lag)
            said = {"delta": {"content": text[shown:until]}} if chat else {"text": text[shown:until]}
            first = None if chat or told else prompt
            yield self._event({**said, "finish_reason": finish, "token_ids": new}, chat, first)
            shown, new, told = until, [], True
        usage = {"prompt_tokens": len(prompt), "completion_tokens": count, "total_tokens": len(ids)}
        yield self._chunk({"choices": [], "usage": usage}, chat)
        yield b"data: [DONE]\n\n"

    def _next(self, ids: list[int]) -> int:
        """Once a character has begun, its other bytes follow."""
        if ids[-1] - len(PIECES) in (0, 1, 3):
            return ids[-1] + 1
        number = sum((i + 1) * t * 31 for i, t in enumerate(ids)) * 2654435761 // 977
        choices: list[int] = [*range(len(PIECES) + 1), len(PIECES) + 3]
        return choices[number % len(choices)]

    def _event(self, choice: dict[str, Any], chat: bool, prompt: list[int] | None) -> bytes:
        choice = {"index": 0, "logprobs": None, **choice}
        if chat:
            return self._chunk({"choices": [choice], "prompt_token_ids": prompt}, chat)
        return self._chunk({"choices": [choice | {"prompt_token_ids": prompt}]}, chat)

    def _chunk(self, rest: dict[str, Any], chat: bool) -> bytes:
        kind = "chat.completion.chunk" if chat else "text_completion"
        head = {"id": self.name, "object": kind, "created": len(self.name), "model": "m"}
        return b"data: " + json.dumps(head | rest, separators=(",", ":")).encode() + b"\n\n"


def parsed_of(api: Api, **body: Any) -> ParsedRequest:
    prompt = {"messages": [{"role": "user", "content": "x"}]} if api is Api.CHAT else {"prompt": "x"}
    whole = {"model": "m", "stream": True, "stream_options": {"include_usage": True}, **prompt, **body}
    return parse_request(api, json.dumps(whole).encode(), "r")


def told(events: bytes) -> dict[str, Any]:
    """What a client makes of a stream."""
    lines = [line.removeprefix("data: ") for line in events.decode().split("\n") if line]
    chunks = [json.loads(line) for line in lines if line != "[DONE]"]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    return {
        "text": "".join(c["text"] if "text" in c else c["delta"].get("content", "") for c in choices),
        "finish": [c["finish_reason"] for c in choices if c["finish_reason"]],
        "usage": [chunk["usage"] for chunk in chunks if chunk.get("usage")],
        "heads": {(chunk["id"], chunk["created"], chunk["object"]) for chunk in chunks},
        "roles": [c["delta"]["role"] for c in choices if c.get("delta", {}).get("role")],
        "done": lines.count("[DONE]"),
        "ids": [c["token_ids"] for c in choices if c.get("token_ids")],
    }


def vllm() -> Continuation:
    found = continuation_of("vllm-mooncake")
    assert found is not None
    return found


def reader_of(emitted: Emitted, joint: Any = None) -> ResumableReader:
    reader = ResumableReader(drop_usage=False, shows_ids=False, emitted=emitted, joint=joint)
    reader.is_open = True
    return reader


def joined_stream(
    parsed: ParsedRequest, prompt: list[int], cuts: list[int], per_event: int, piece: int = 10**9
) -> bytes:
    """The client's stream when the workers break off after so many bytes each, the last one not at all."""
    api, body, ids = parsed.api, parsed.body.as_dict(), prompt
    emitted, joint, out = Emitted(), None, b""
    for index in range(len(cuts) + 1):
        reader = reader_of(emitted, joint)
        sent = b"".join(VllmEngine(f"w{index}", per_event).stream(api, body, ids))
        if index < len(cuts):
            sent = sent[: cuts[index] % len(sent)]
        for start in range(0, len(sent), piece):
            out += reader.feed(sent[start : start + piece])
        if reader.done:
            return out
        given_ = emitted.given()
        if given_ is None:
            out, emitted, joint = b"", Emitted(), None  # nothing has begun: all is asked for again
            api, body, ids = parsed.api, parsed.body.as_dict(), prompt
            continue
        if given_.finished:
            usage = None if reader.usage else (len(prompt), given_.num_output)
            return out + closing(given_.head, chat=parsed.api is Api.CHAT, model="m", usage=usage)
        plan = vllm().plan(parsed, given_)
        rest = vllm().rest(parsed, plan, given_, MAX_LENGTH)
        api, body, joint = rest.api, json.loads(rest.body.encode()), rest.joint
        ids = body["prompt"]
        emitted = Emitted(plan, given_.head)
    return out


PROMPTS = st.lists(st.integers(0, len(PIECES) - 1), min_size=1, max_size=6)


@settings(max_examples=100, deadline=None)
@given(
    api=st.sampled_from([Api.CHAT, Api.COMPLETION]),
    prompt=PROMPTS,
    cuts=st.lists(st.integers(0, 10**6), min_size=1, max_size=3),
    limit=st.sampled_from([None, 5, 40, 120]),
    piece=st.sampled_from([7, 300, 10**9]),
    per_event=st.integers(1, 3),
)
def test_any_cuts_of_a_vllm_stream_give_the_same_answer(
    api: Api, prompt: list[int], cuts: list[int], limit: int | None, piece: int, per_event: int
) -> None:
    asked = {} if limit is None else {"max_tokens": limit}
    parsed = parsed_of(api, **asked)
    expected = told(b"".join(VllmEngine("w0", per_event).stream(api, parsed.body.as_dict(), prompt)))
    try:
        got = told(joined_stream(parsed, prompt, cuts, per_event, piece))
    except NotExactError:
        assert per_event > 1
        return
    for key in ("text", "finish", "usage", "roles", "done"):
        assert got[key] == expected[key]
    assert len(got["heads"]) == 1
    assert got["ids"] == [], "nobody asked for them"


@settings(max_examples=100, deadline=None)
@given(
    prompt=PROMPTS,
    cuts=st.lists(st.integers(0, 10**6), min_size=1, max_size=3),
    stop=st.sampled_from([["END"], "the e", ["日本", "!!"], ["b\n", "NN"]]),
    per_event=st.integers(1, 3),
)
def test_stop_strings_are_found_across_cuts(
    prompt: list[int], cuts: list[int], stop: Any, per_event: int
) -> None:
    """vLLM holds back text that may become a stop string: a greedy stream goes back a little."""
    parsed = parsed_of(Api.COMPLETION, max_tokens=120, temperature=0, stop=stop)
    expected = told(b"".join(VllmEngine("w0", per_event).stream(parsed.api, parsed.body.as_dict(), prompt)))
    try:
        got = told(joined_stream(parsed, prompt, cuts, per_event))
    except NotExactError:
        return
    for key in ("text", "finish", "done"):
        assert got[key] == expected[key]
    assert got["usage"][0]["prompt_tokens"] == len(prompt)
    if per_event == 1:
        assert got["usage"] == expected["usage"]


def begun(parsed: ParsedRequest, events: int, per_event: int = 1) -> Emitted:
    emitted = Emitted()
    stream = list(VllmEngine("w", per_event).stream(parsed.api, parsed.body.as_dict(), [1, 2]))
    for event in stream[:events]:
        emitted.add(event)
    return emitted


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "structured_output"),
        ({"logprobs": True}, "logprobs"),
        ({"presence_penalty": 0.5}, "penalties"),
        ({"seed": 7}, "seed"),
        ({"stop": ["END", "x" * 100]}, "stop_strings"),
        ({"wild": 1}, "unknown_field"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "media"),
    ],
)
def test_what_would_not_go_on_exactly_is_left_alone(body: dict[str, Any], reason: str) -> None:
    parsed = parsed_of(Api.CHAT, max_tokens=200, **body)
    found = begun(parsed, 150).given()
    assert found is not None
    with pytest.raises(NotExactError, match=reason):
        vllm().plan(parsed, found)


@pytest.mark.parametrize(
    "body",
    [
        {"seed": 7, "temperature": 0},
        {"tool_choice": "none", "tools": []},
        {"response_format": {"type": "text"}, "presence_penalty": 0, "logprobs": False},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
    ],
)
def test_what_asks_for_nothing_special_goes_on(body: dict[str, Any]) -> None:
    parsed = parsed_of(Api.CHAT, max_tokens=50, **body)
    found = begun(parsed, 20).given()
    assert found is not None
    assert vllm().plan(parsed, found).num_output > 0


def test_reasoning_and_calls_are_no_plain_text() -> None:
    parsed = parsed_of(Api.CHAT, max_tokens=50)
    emitted = begun(parsed, 10)
    emitted.add(b'data: {"choices":[{"index":0,"delta":{"reasoning":"so"},"token_ids":[5]}]}\n\n')
    found = emitted.given()
    assert found is not None
    with pytest.raises(NotExactError, match="not_plain_text"):
        vllm().plan(parsed, found)


def test_several_prompts_or_choices_are_not_even_asked() -> None:
    assert not vllm().can_ask(parsed_of(Api.COMPLETION, n=2))
    assert not vllm().can_ask(parsed_of(Api.COMPLETION, echo=True))
    assert vllm().can_ask(parsed_of(Api.COMPLETION))
    assert continuation_of("sglang") is None


def test_the_rest_of_a_chat_asks_for_what_is_left() -> None:
    parsed = parsed_of(Api.CHAT, max_completion_tokens=50, min_tokens=30, top_p=0.5, seed=3, temperature=0)
    found = begun(parsed, 21).given()
    assert found is not None
    plan = vllm().plan(parsed, found)
    rest = vllm().rest(parsed, plan, found, None)
    body = json.loads(rest.body.encode())
    assert rest.api is Api.COMPLETION
    assert (len(body["prompt"]), body["max_tokens"]) == (2 + plan.num_output, 50 - plan.num_output)
    assert body["min_tokens"] == max(0, 30 - plan.num_output)
    assert (body["top_p"], body["stream"], "seed" in body, "messages" in body) == (0.5, True, False, False)
    unbounded = parsed_of(Api.CHAT)
    assert vllm().needs_room(unbounded)
    with pytest.raises(NotExactError, match="length_unknown"):
        vllm().rest(unbounded, plan, found, None)
    assert json.loads(vllm().rest(unbounded, plan, found, 100).body.encode())["max_tokens"] == (
        100 - 2 - plan.num_output
    )


def test_the_native_worker_is_given_prompt_and_output() -> None:
    native = continuation_of("native")
    assert native is not None
    for api, sent in ((Api.CHAT, None), (Api.COMPLETION, 16)):
        parsed = parsed_of(api, seed=5, presence_penalty=1, stop="x", logprobs=None)
        found = begun(parsed_of(api, max_tokens=90), 9).given()
        assert found is not None
        plan = native.plan(parsed, found)
        rest = native.rest(parsed, plan, found, None)
        body = json.loads(rest.body.encode())
        assert body["resume"]["prompt_token_ids"] == [1, 2]
        assert len(body["resume"]["token_ids"]) == plan.num_output > 5
        assert body.get("max_tokens") == (None if sent is None else sent - plan.num_output)
        assert (rest.api, body["seed"], body["stop"]) == (api, 5, "x")


@pytest.mark.parametrize("per_event", [1, 3])
def test_ids_are_kept_in_bounded_memory(per_event: int) -> None:
    parsed = parsed_of(Api.COMPLETION, max_tokens=380)
    emitted = begun(parsed, 380, per_event)
    assert emitted._size <= RAW_BYTES
    found = emitted.given()
    assert found is not None
    assert found.start is None
    assert found.num_output == 380
    assert replace(found, steps=()).num_output < 380


def test_a_stream_that_tells_no_ids_is_not_followed() -> None:
    emitted = Emitted()
    emitted.add(b'data: {"id":"a","created":1,"choices":[{"index":0,"text":"hi"}]}\n\n')
    assert emitted.given() is None


def test_ids_are_hidden_from_clients_that_did_not_ask() -> None:
    event = b'data: {"prompt_token_ids":[1, 2],"text":"\\"token_ids\\":[5]","token_ids":[3]}\n\n'
    assert without_ids(event) == (
        b'data: {"prompt_token_ids":null,"text":"\\"token_ids\\":[5]","token_ids":null}\n\n'
    )


def test_an_error_on_the_way_is_withheld() -> None:
    reader = reader_of(Emitted())
    good, error = b'data: {"choices":[]}\n\n', b'data: {"error":{"message":"x"}}\n\n'
    assert reader.feed(good + error) == good
    assert reader.feed(b"data: [DONE]\n\n") == b""
    assert reader.withheld == error + b"data: [DONE]\n\n"
    assert not reader.done


def test_the_end_of_an_answer_that_lacks_only_that() -> None:
    end = told(closing(Head("a", 1), chat=True, model="m", usage=(3, 4)))
    assert end["usage"] == [{"prompt_tokens": 3, "total_tokens": 7, "completion_tokens": 4}]
    assert end["done"] == 1
