"""Chat templates as Hugging Face writes them: jinja2 in its sandbox, with the helpers that they expect."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment


class ChatTemplateError(ValueError):
    """The template refuses the messages, or is broken itself."""


class GenerationTag(Extension):
    """`{% generation %}` marks the assistant's words for training; here it only passes them through."""

    tags = {"generation"}  # noqa: RUF012  (jinja2 wants a set)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class ChatTemplate:
    """Messages to the text that the model knows. `special_tokens`: bos_token, eos_token and their like."""

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", GenerationTag]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = _strftime_now
        self._special_tokens = dict(special_tokens)
        try:
            self._template = environment.from_string(source)
        except TemplateSyntaxError as error:
            raise ChatTemplateError(f"the chat template is broken: {error}") from error

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        options: Mapping[str, Any] | None = None,
        *,
        add_generation_prompt: bool = True,
    ) -> str:
        """ChatTemplateError: the template does not take these messages."""
        values = self._special_tokens | dict(options or {})
        values |= {"messages": list(messages), "add_generation_prompt": add_generation_prompt}
        try:
            return self._template.render(values)
        except (TemplateError, TypeError, ValueError, KeyError) as error:
            raise ChatTemplateError(f"the chat template refuses these messages: {error}") from error


def load_chat_template(folder: Path, tokenizer_config: Mapping[str, Any]) -> ChatTemplate | None:
    """From chat_template.jinja, else from tokenizer_config.json; None: the checkpoint has none."""
    file = folder / "chat_template.jinja"
    source = file.read_text("utf-8") if file.is_file() else _default_of(tokenizer_config.get("chat_template"))
    return None if source is None else ChatTemplate(source, _special_tokens(tokenizer_config))


def _default_of(value: object) -> str | None:
    """The config holds one template, or a list of named ones."""
    if isinstance(value, list):
        named = {entry.get("name"): entry.get("template") for entry in value if isinstance(entry, dict)}
        value = named.get("default")
    return value if isinstance(value, str) else None


def _special_tokens(tokenizer_config: Mapping[str, Any]) -> dict[str, str]:
    """A token is written as a string or as an object with `content`; absent ones read as empty."""
    tokens = {"bos_token": "", "eos_token": "", "unk_token": "", "pad_token": ""}
    for name in tokens:
        value = tokenizer_config.get(name)
        content = value.get("content") if isinstance(value, dict) else value
        tokens[name] = content if isinstance(content, str) else ""
    return tokens


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)


def _to_json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)
