"""YAML that people wrote -> LLMServices, for the commands that read files."""

from collections.abc import Hashable
from typing import Any, TextIO

import yaml

from tandem_operator.api import API_VERSION, LLMService
from tandem_operator.validation import InvalidResourceError, load_service


class DocumentError(ValueError):
    """The file cannot be used; the text says where and why, one problem a line."""


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice, which YAML forbids and PyYAML lets pass."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                problem = f"the key {key!r} is there twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            if isinstance(key, Hashable):
                seen.add(key)
        return super().construct_mapping(node, deep)


def services(stream: TextIO) -> list[LLMService]:
    """Every LLMService in the stream; DocumentError if there is none, or one is wrong."""
    name = getattr(stream, "name", "input")
    try:
        documents = [document for document in yaml.load_all(stream, _Loader) if document is not None]
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DocumentError(f"{name} is no YAML: {_problem(error)}") from error
    if not documents:
        raise DocumentError(f"{name} holds no LLMService")
    return [_service(name, index, document) for index, document in enumerate(documents, start=1)]


def _service(name: str, index: int, document: object) -> LLMService:
    where = f"{name}, document {index}"
    if not isinstance(document, dict):
        raise DocumentError(f"{where} is no Kubernetes object")
    found = (document.get("apiVersion"), document.get("kind"))
    if found != (API_VERSION, "LLMService"):
        raise DocumentError(f"{where} is {found[0]} {found[1]}, not {API_VERSION} LLMService")
    try:
        return load_service(document)
    except InvalidResourceError as error:
        lines = "\n".join(f"  {problem}" for problem in str(error).splitlines())
        raise DocumentError(f"{where} is not valid:\n{lines}") from error


def _problem(error: yaml.YAMLError | UnicodeDecodeError) -> str:
    """In one line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return " ".join(str(error).split())
