"""`python -m tandem_wire.settings_doc [FILE]`: the router's settings as a page."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from tandem_wire.router_settings import RouterSettings, Settings

_HEAD = """# Configuration of the router

Made by `make generate` from `worker/tandem_wire/router_settings.py`; do not edit.

In an `LLMService` these are `spec.classes` and the fields of `spec.router`; the operator hands the router
what differs from the defaults. A router of your own takes the same as JSON, with
`tandem router --settings '{"queueing": {"fairness": {}}}'`, `--settings @FILE` or the variable
`TANDEM_ROUTER_SETTINGS`. Durations are written as `500ms`, `1.5s`, `2m`, `1h`. A setting whose default is `-`
is off until it is given; a group of settings is given with its defaults as `{}`.
"""


def page() -> str:
    """The page as Markdown: a table for each group of settings."""
    return "\n".join([_HEAD, *_sections(RouterSettings, "")])


def _sections(kind: type[Settings], path: str) -> Iterator[str]:
    rows: list[str] = []
    inner: list[tuple[type[Settings], str]] = []
    for name, info in kind.model_fields.items():
        shown = info.alias or name
        group = _group(info.annotation)
        if group is not None:
            inner.append((group, f"{path}.{shown}" if path else shown))
        rows.append(f"| `{shown}` | {_default(info, group)} | {_meaning(info, group)} |")
    if path:
        head = "| setting | default | meaning |\n| --- | --- | --- |"
        yield "\n".join([f"## `{path}`", "", (kind.__doc__ or "").strip(), "", head, *rows, ""])
    for group, where in inner:
        yield from _sections(group, where)


def _group(annotation: Any) -> type[Settings] | None:
    """The settings inside an annotation such as `Lanes | None` or `tuple[ServiceClass, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return annotation
    found = (_group(argument) for argument in get_args(annotation))
    return next((group for group in found if group is not None), None)


def _default(info: FieldInfo, group: type[Settings] | None) -> str:
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True)
    if value is None or value == ():
        return "-"
    if isinstance(value, Settings):
        return "see below"
    if group is not None:
        return ", ".join(f"`{item.model_dump_json(by_alias=True, exclude_defaults=True)}`" for item in value)
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text}`"


def _meaning(info: FieldInfo, group: type[Settings] | None) -> str:
    text = info.description or ((group.__doc__ or "").strip() if group is not None else "")
    choices = [f"`{choice}`" for choice in _choices(info.annotation)]
    return " ".join(part for part in (text, f"One of {', '.join(choices)}." if choices else "") if part)


def _choices(annotation: Any) -> tuple[Any, ...]:
    origin = get_origin(annotation)
    if origin is Literal:
        return get_args(annotation)
    if origin in (Union, UnionType, Annotated):
        inner = (_choices(part) for part in get_args(annotation) if part is not NoneType)
        return next((choices for choices in inner if choices), ())
    return ()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(page(), encoding="utf-8")
    else:
        sys.stdout.write(page())
