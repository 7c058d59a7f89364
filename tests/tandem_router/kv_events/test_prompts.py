"""A prompt's tokens: as given, or as the engine itself would make them of the text."""

import json
from pathlib import Path
from typing import Any

import pytest

from tandem_router.json_body import JsonBody, parse_object
from tandem_router.kv_events import TokenizerError
from tandem_router.kv_events.prompts import LONG_BYTES, MAX_BYTES, PromptTokens, load_prompt_tokens
from tandem_router.openai import Api
from tandem_worker.tokenizer import Tokenizer


def body(**values: Any) -> JsonBody:
    return parse_object(json.dumps({"model": "m", **values}).encode())


def user(content: Any) -> JsonBody:
    return body(messages=[{"role": "user", "content": content}])


@pytest.mark.parametrize("prompt", [[1, 2, 3], [7]])
async def test_given_tokens_need_no_tokenizer(prompt: list[int]) -> None:
    assert await PromptTokens().of(Api.COMPLETION, body(prompt=prompt)) == tuple(prompt)


@pytest.mark.parametrize("prompt", ["text", ["a", "b"], [[1], [2]]])
async def test_without_a_tokenizer_texts_have_no_tokens(prompt: Any) -> None:
    assert await PromptTokens().of(Api.COMPLETION, body(prompt=prompt)) == ()
    assert await PromptTokens().of(Api.CHAT, user("hello")) == ()


async def test_texts_are_tokenised_as_the_engine_does(
    tiny_checkpoint: Path, tiny_tokenizer: Tokenizer
) -> None:
    tokens = load_prompt_tokens(tiny_checkpoint)
    for text in ("hello", "x" * (2 * LONG_BYTES)):
        expected = tuple(tiny_tokenizer.encode(text, add_special_tokens=True))
        assert await tokens.of(Api.COMPLETION, body(prompt=text)) == expected
    assert tiny_tokenizer.chat_template is not None
    rendered = tiny_tokenizer.chat_template.render([{"role": "user", "content": "a\nb"}])
    expected = tuple(tiny_tokenizer.encode(rendered, add_special_tokens=False))
    assert await tokens.of(Api.CHAT, user("a\nb")) == expected
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert await tokens.of(Api.CHAT, user(parts)) == expected


async def test_what_cannot_be_known_is_not_guessed(tiny_checkpoint: Path) -> None:
    tokens = load_prompt_tokens(tiny_checkpoint)
    image = [{"type": "image_url", "image_url": {"url": "data:"}}]
    assert await tokens.of(Api.CHAT, user(image)) == ()
    assert await tokens.of(Api.COMPLETION, body(prompt=["a", "b"])) == ()
    assert await tokens.of(Api.COMPLETION, body(prompt="x" * (MAX_BYTES + 1))) == ()


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"tokenizer\.json is no tokenizer"):
        load_prompt_tokens(tmp_path)
