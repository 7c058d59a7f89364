"""The checkpoint's tokenizer and chat template."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from tandem_wire.chat_template import ChatTemplate, ChatTemplateError, load_chat_template
from tandem_worker.errors import CheckpointError


class Tokenizer:
    """Text to token ids and back; `chat_template` is None when the checkpoint has none."""

    def __init__(self, backend: tokenizers.Tokenizer, chat_template: ChatTemplate | None = None) -> None:
        self._backend = backend
        self.chat_template = chat_template

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        ids: list[int] = self._backend.encode(text, add_special_tokens=add_special_tokens).ids
        return ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """Special tokens, and ids that the vocabulary does not know, read as nothing."""
        text: str = self._backend.decode(list(token_ids), skip_special_tokens=True)
        return text

    def token_text(self, token_id: int) -> str:
        """One token by itself, special ones by name."""
        text: str = self._backend.decode([token_id], skip_special_tokens=False)
        return text


def load_tokenizer(folder: Path) -> Tokenizer:
    """Reads tokenizer.json, tokenizer_config.json and the template. CheckpointError: missing or broken."""
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise CheckpointError(f"{folder} has no tokenizer.json")
    try:
        backend = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises bare Exception for every kind of bad file
        raise CheckpointError(f"{file} is no tokenizer: {error}") from error
    try:
        return Tokenizer(backend, load_chat_template(folder, _tokenizer_config(folder)))
    except (ChatTemplateError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{folder}: {error}") from error


def byte_tokenizer() -> Tokenizer:
    """One token per byte, id = byte value: for models that are random anyway and come without a tokenizer."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet(), key=_byte_of)
    backend = tokenizers.Tokenizer(models.BPE({letter: byte for byte, letter in enumerate(letters)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return Tokenizer(backend)


def _byte_of(letter: str) -> int:
    """ByteLevel writes the bytes that are no printable Latin-1 letter as U+0100 and on, in order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    if ord(letter) < 0x100:
        return ord(letter)
    return [byte for byte in range(256) if byte not in printable][ord(letter) - 0x100]


def _tokenizer_config(folder: Path) -> Mapping[str, Any]:
    file = folder / "tokenizer_config.json"
    if not file.is_file():
        return {}
    try:
        config = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file} is no JSON: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{file} does not hold an object")
    return config
