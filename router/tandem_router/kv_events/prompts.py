"""A prompt's token ids, where caches are matched exactly: as given, or by the model's own tokenizer."""

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tandem_router.json_body import BodyError, JsonBody
from tandem_router.kv_events import TokenizerError
from tandem_router.openai import Api
from tandem_wire.chat_template import ChatTemplate, ChatTemplateError, load_chat_template

LONG_BYTES = 4096
"""Longer prompts are tokenised beside the event loop."""
MAX_BYTES = 1 << 20
"""Still longer ones are not tokenised: it would take longer than it saves."""

_log = logging.getLogger(__name__)


class Encode(Protocol):
    def __call__(self, text: str, *, add_special_tokens: bool) -> Sequence[int]: ...


class PromptTokens:
    """`encode`, `template` None: only prompts of token ids have any."""

    def __init__(self, encode: Encode | None = None, template: ChatTemplate | None = None) -> None:
        self._encode, self._template = encode, template
        self._beside = asyncio.Semaphore(1)

    async def of(self, api: Api, body: JsonBody) -> tuple[int, ...]:
        """Empty when they cannot be known."""
        key = "messages" if api is Api.CHAT else "prompt"
        if key not in body or len(body.raw(key)) > MAX_BYTES:
            return ()
        if api is Api.COMPLETION and (given := _ids(body)) is not None:
            return given
        if self._encode is None:
            return ()
        try:
            if len(body.raw(key)) <= LONG_BYTES:
                return self._tokenise(api, body)
            async with self._beside:
                return await asyncio.to_thread(self._tokenise, api, body)
        except (BodyError, ChatTemplateError) as error:
            _log.debug("a prompt is not tokenised: %s", error)
            return ()

    def _tokenise(self, api: Api, body: JsonBody) -> tuple[int, ...]:
        if self._encode is None:
            return ()
        if api is Api.COMPLETION:
            prompt = body["prompt"]
            return tuple(self._encode(prompt, add_special_tokens=True)) if isinstance(prompt, str) else ()
        messages = body["messages"]
        if self._template is None or not all(map(_is_text, messages)):
            return ()
        options = body.get("chat_template_kwargs") or {}
        more = {"tools": body["tools"]} if body.get("tools") else {}
        text = self._template.render(list(map(_flat, messages)), {**more, **options})
        return tuple(self._encode(text, add_special_tokens=False))


def load_prompt_tokens(folder: Path) -> PromptTokens:
    """From tokenizer.json and the chat template in `folder`. Raises TokenizerError."""
    import tokenizers

    try:
        backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # tokenizers raises bare Exception for every kind of bad file
        raise TokenizerError(f"{folder / 'tokenizer.json'} is no tokenizer: {error}") from error

    def encode(text: str, *, add_special_tokens: bool) -> Sequence[int]:
        ids: list[int] = backend.encode(text, add_special_tokens=add_special_tokens).ids
        return ids

    config = folder / "tokenizer_config.json"
    try:
        settings = json.loads(config.read_text("utf-8")) if config.is_file() else {}
        return PromptTokens(encode, load_chat_template(folder, settings))
    except (OSError, ValueError) as error:
        raise TokenizerError(f"the chat template in {folder} cannot be used: {error}") from error


def _ids(body: JsonBody) -> tuple[int, ...] | None:
    """A prompt of token ids; None for any other."""
    if not bytes(memoryview(body.raw("prompt"))[:16]).lstrip(b"[ \n").split(b",")[0].strip(b" ]").isdigit():
        return None
    prompt = body["prompt"]
    if prompt and all(type(token) is int for token in prompt):
        return tuple(prompt)
    return None


def _is_text(message: Mapping[str, Any]) -> bool:
    content = message.get("content")
    if isinstance(content, list):
        return all(isinstance(part, dict) and part.get("type") == "text" for part in content)
    return content is None or isinstance(content, str)


def _flat(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """Parts of text become one text, as engines do for templates that know only texts."""
    content = message.get("content")
    if not isinstance(content, list):
        return message
    return {**message, "content": "\n".join(str(part.get("text", "")) for part in content)}
