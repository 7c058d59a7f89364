"""A manifest that somebody wrote -> a typed resource, or every problem with its exact field."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tandem_operator.api import Api, LLMService, Manifest, WorkerPool
from tandem_operator.rules import RULES
from tandem_operator.units import DURATION, POSITIVE_DURATION, QUANTITY

Resource = TypeVar("Resource", LLMService, WorkerPool)
MAX_PROBLEMS = 8

_PATTERNS = {
    DURATION: "a duration such as 500ms, 30s or 5m",
    POSITIVE_DURATION: "a duration greater than zero, such as 500ms or 30s",
    QUANTITY: "a quantity such as 500m, 2 or 1Gi",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `field` is a path such as `spec.pools[1].role`."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class InvalidResourceError(ValueError):
    """A manifest that cannot be served. The text names every field and rule, one a line."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        shown = [str(problem) for problem in problems[:MAX_PROBLEMS]]
        hidden = len(problems) - len(shown)
        super().__init__("\n".join([*shown, *([f"and {hidden} more"] if hidden else [])]))


def load_service(manifest: Manifest) -> LLMService:
    """The LLMService that a manifest describes; InvalidResourceError if it breaks the schema or a rule."""
    return _load(LLMService, manifest)


def load_pool(manifest: Manifest) -> WorkerPool:
    """The WorkerPool that a manifest describes; InvalidResourceError if it breaks the schema or a rule."""
    return _load(WorkerPool, manifest)


def _load(kind: type[Resource], manifest: Manifest) -> Resource:
    try:
        resource = kind.model_validate_json(json.dumps(manifest, default=str), strict=True)
    except ValidationError as error:
        raise InvalidResourceError(_structural(kind, error)) from None
    problems = tuple(_broken(resource, ""))
    if problems:
        raise InvalidResourceError(problems)
    return resource


def _broken(value: object, path: str) -> Iterator[Problem]:
    """Rules that do not hold, in the whole tree below `value`."""
    if isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _broken(item, f"{path}[{index}]")
    if not isinstance(value, BaseModel):
        return
    for rule in RULES.get(type(value), ()):
        if not rule.holds(value):
            yield Problem(_join(path, rule.field), rule.message)
    for name, info in type(value).model_fields.items():
        child, child_path = getattr(value, name), _join(path, info.alias or name)
        yield from _duplicates(child, child_path, info.json_schema_extra)
        yield from _broken(child, child_path)


def _duplicates(items: object, path: str, extra: object) -> Iterator[Problem]:
    """Entries of a keyed list whose key was there before."""
    key = extra.get("x-key") if isinstance(extra, dict) else None
    if not isinstance(items, tuple) or not isinstance(key, str):
        return
    seen: set[object] = set()
    for index, item in enumerate(items):
        value = getattr(item, key)
        if value in seen:
            yield Problem(f"{path}[{index}].{key}", f"{value!r} is there twice")
        seen.add(value)


def _join(path: str, field: str) -> str:
    return f"{path}.{field}" if path and field else path or field


def _structural(kind: type[Api], error: ValidationError) -> tuple[Problem, ...]:
    """Pydantic's errors in our words; the branches of a union that failed together are one problem."""
    found: dict[str, Problem] = {}
    details = error.errors(include_url=False)
    for detail in details:
        if detail["type"] == "too_short" and any(_below(other, detail) for other in details):
            continue  # the list is only too short without the items that are wrong
        path, siblings = _path(kind, detail["loc"])
        found.setdefault(path, Problem(path, _explain(detail, siblings)))
    return tuple(found.values())


def _below(inner: ErrorDetails, outer: ErrorDetails) -> bool:
    depth = len(outer["loc"])
    return len(inner["loc"]) > depth and inner["loc"][:depth] == outer["loc"]


def _path(kind: type[Api], location: tuple[int | str, ...]) -> tuple[str, tuple[str, ...]]:
    """The field path of a location, and the names of the fields beside it."""
    path = ""
    siblings: tuple[str, ...] = ()
    node: Any = kind
    for step in location:
        if isinstance(step, int):
            path += f"[{step}]"
        elif isinstance(node, type) and issubclass(node, BaseModel):
            fields = {info.alias or name: info.annotation for name, info in node.model_fields.items()}
            path, siblings, node = _join(path, step), tuple(fields), _model_in(fields.get(step))
        elif node is dict:
            path, node = _join(path, step), None
    return path, siblings


def _model_in(annotation: Any) -> Any:
    """The model, or `dict`, that an annotation such as `tuple[Pool, ...]` or `Accelerator | None` holds."""
    if annotation is None:
        return None
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if getattr(annotation, "__origin__", None) is dict:
        return dict
    inner = (_model_in(argument) for argument in getattr(annotation, "__args__", ()))
    return next((model for model in inner if model is not None), None)


def _explain(detail: ErrorDetails, siblings: tuple[str, ...]) -> str:
    context = detail.get("ctx", {})
    given = _shorten(detail["input"])
    match detail["type"]:
        case "missing":
            return "is required"
        case "extra_forbidden":
            near = get_close_matches(str(detail["loc"][-1]), siblings, n=1)
            return "is no known field" + (f"; did you mean {near[0]}?" if near else "")
        case "literal_error":
            return f"must be {context['expected']}, not {given}"
        case "string_pattern_mismatch":
            pattern = str(context["pattern"])
            return f"must be {_PATTERNS.get(pattern, f'text that matches {pattern}')}, not {given}"
        case _:
            message = detail["msg"].removeprefix("Input should ")
            return f"{'should ' if message != detail['msg'] else ''}{message}, not {given}"


def _shorten(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
