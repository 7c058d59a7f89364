"""The generated definitions: checked in as they are generated, structural, and useful to kubectl."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tandem_operator.api import Manifest
from tandem_operator.crd import definitions, write

REPO = Path(__file__).parents[2]


def _nodes(schema: Manifest, path: str = "") -> Iterator[tuple[str, Manifest]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from _nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from _nodes(schema[key], f"{path}[]")


@pytest.fixture(params=sorted(definitions()))
def version(request: pytest.FixtureRequest) -> Manifest:
    found: Manifest = definitions()[request.param]["spec"]["versions"][0]
    return found


def test_the_checked_in_files_are_what_the_types_give(tmp_path: Path) -> None:
    write(tmp_path)
    generated = {path.name: path.read_text() for path in tmp_path.iterdir()}
    present = {path.name: path.read_text() for path in (REPO / "manifests/crds").iterdir()}
    assert present == generated, "run `python -m tandem_operator.crd`"


def test_a_schema_is_structural(version: Manifest) -> None:
    for path, node in _nodes(version["schema"]["openAPIV3Schema"]):
        assert "type" in node or node.get("x-kubernetes-int-or-string"), path
        unknown = {"$ref", "$defs", "anyOf", "title", "patternProperties", "propertyNames", "x-key"} & set(
            node
        )
        assert not unknown, path
        assert not ("properties" in node and "additionalProperties" in node), path


def test_texts_and_lists_of_a_spec_are_bounded_so_that_rules_are_cheap(version: Manifest) -> None:
    for path, node in _nodes(version["schema"]["openAPIV3Schema"]["properties"]["spec"]):
        if node.get("type") == "string":
            assert "maxLength" in node or "enum" in node, path
        if node.get("type") == "array":
            assert "maxItems" in node, path
        if "additionalProperties" in node:
            assert "maxProperties" in node, path
        if node.get("type") == "integer":
            assert {"minimum", "maximum"} <= set(node), path


def test_no_default_is_empty_text_which_kubernetes_1_20_refuses(version: Manifest) -> None:
    assert [
        path for path, node in _nodes(version["schema"]["openAPIV3Schema"]) if node.get("default") == ""
    ] == []


def test_every_field_of_a_spec_explains_itself(version: Manifest) -> None:
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    silent = [name for name, node in spec["properties"].items() if "description" not in node]
    assert silent == []


def _by_kind(kind: str) -> dict[str, Any]:
    return next(item["spec"] for item in definitions().values() if item["spec"]["names"]["kind"] == kind)


def test_kubectl_scale_works_on_a_pool() -> None:
    pool = _by_kind("WorkerPool")
    assert pool["names"]["shortNames"] == ["pool"]
    assert pool["versions"][0]["subresources"]["scale"] == {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }


def test_kubectl_get_shows_what_matters() -> None:
    columns = [column["name"] for column in _by_kind("LLMService")["versions"][0]["additionalPrinterColumns"]]
    assert columns == ["Model", "Engine", "Prefill", "Decode", "Mixed", "Available", "Reason", "URL", "Age"]
    assert _by_kind("LLMService")["names"]["shortNames"] == ["llms"]
