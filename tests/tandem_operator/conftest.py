"""What the operator's tests share: a good service, and an API server's checks of a custom resource."""

import copy
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import celpy
import jsonschema
import pytest
import yaml
from celpy.adapter import json_to_cel

from tandem_operator.api import LLMService, Manifest
from tandem_operator.crd import definitions
from tandem_operator.validation import load_service

REPO = Path(__file__).parents[2]
SPECS = Path(__file__).parent / "specs.yaml"

MakeService = Callable[..., LLMService]


def merged(base: Any, patch: Any) -> Any:
    """RFC 7396, on copies."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = copy.deepcopy(base) if isinstance(base, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


@pytest.fixture(scope="session")
def specs() -> Manifest:
    """The table of good and bad specs."""
    table: Manifest = yaml.safe_load(SPECS.read_text(encoding="utf-8"))
    return table


@pytest.fixture(scope="session")
def manifest(specs: Manifest) -> Callable[[Manifest], Manifest]:
    """The good service as somebody would write it, with a merge patch on it."""
    return lambda change: dict(merged(specs["base"], change))


@pytest.fixture
def make_service(manifest: Callable[[Manifest], Manifest]) -> MakeService:
    """The good service as the API server returns it, with changes to its spec."""

    def make(**spec: Any) -> LLMService:
        identity = {"metadata": {"uid": "uid-base", "generation": 1}}
        return load_service(merged(manifest(identity), {"spec": spec}))

    return make


@pytest.fixture
def quickstart() -> Manifest:
    """The sample that the README starts with."""
    sample: Manifest = yaml.safe_load(
        (REPO / "manifests/samples/quickstart.yaml").read_text(encoding="utf-8")
    )
    return sample


@pytest.fixture(scope="session")
def server_problems() -> Callable[[Manifest], list[str]]:
    """What an API server that knows CEL has against an LLMService, after defaulting."""
    root = definitions()["llmservices.yaml"]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    validator = jsonschema.Draft4Validator(root)  # As OpenAPI 3.0: exclusive limits are flags.

    def problems(manifest: Manifest) -> list[str]:
        value = copy.deepcopy(manifest)
        _default(root, value)
        return [error.message for error in validator.iter_errors(value)] or list(_extensions(root, value))

    return problems


def _default(schema: Manifest, value: Any) -> None:
    if isinstance(value, dict):
        for name, child in schema.get("properties", {}).items():
            if name not in value and "default" in child:
                value[name] = copy.deepcopy(child["default"])
            if name in value:
                _default(child, value[name])
    elif isinstance(value, list):
        for item in value:
            _default(schema["items"], item)


def _extensions(schema: Manifest, value: Any) -> Iterator[str]:
    """What Kubernetes checks beyond JSON schema."""
    if schema.get("x-kubernetes-int-or-string") and (
        isinstance(value, bool) or not isinstance(value, int | str)
    ):
        yield f"{value!r} is neither integer nor text"
    if isinstance(value, list):
        keys = [tuple(item[key] for key in schema.get("x-kubernetes-list-map-keys", ())) for item in value]
        if schema.get("x-kubernetes-list-type") == "map" and len(set(keys)) < len(keys):
            yield "a key is there twice"
    yield from _broken_rules(schema.get("x-kubernetes-validations", ()), value)
    for child, below in _children(schema, value):
        yield from _extensions(child, below)


def _children(schema: Manifest, value: Any) -> Iterator[tuple[Manifest, Any]]:
    if isinstance(value, list):
        yield from ((schema["items"], item) for item in value)
    if isinstance(value, dict):
        known: Mapping[str, Manifest] = schema.get("properties", {})
        more = schema.get("additionalProperties")
        for name, item in value.items():
            if child := known.get(name, more):
                yield child, item


def _broken_rules(rules: Any, value: Any) -> Iterator[str]:
    for rule in rules:
        if not _program(rule["rule"]).evaluate({"self": json_to_cel(value)}):
            yield rule["message"]


@cache
def _program(expression: str) -> celpy.Runner:
    environment = celpy.Environment()
    return environment.program(environment.compile(expression))
