"""CustomResourceDefinitions from the types: `python -m tandem_operator.crd` writes them where they ship."""

import sys
from pathlib import Path
from typing import Any

import yaml

from tandem_operator.api import (
    GROUP,
    VERSION,
    Api,
    LLMService,
    LLMServiceSpec,
    LLMServiceStatus,
    Manifest,
    WorkerPool,
    WorkerPoolSpec,
    WorkerPoolStatus,
)
from tandem_operator.rules import RULES

FOLDERS = ("manifests/crds", "charts/tandem/crds")
_DROPPED = ("title", "additionalProperties", "x-key")


def definitions() -> dict[str, Manifest]:
    """Every CRD by the name of its file."""
    return {"llmservices.yaml": _llmservices(), "workerpools.yaml": _workerpools()}


def write(folder: Path) -> None:
    """Write every CRD into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, definition in definitions().items():
        text = yaml.safe_dump(definition, sort_keys=False, width=110, allow_unicode=True)
        (folder / name).write_text(text, encoding="utf-8")


def schema(kind: type[Api]) -> Manifest:
    """The structural schema of a type: references inlined, rules as `x-kubernetes-validations`."""
    raw = kind.model_json_schema(by_alias=True)
    return _structural(raw, raw.get("$defs", {}), _rules(kind.__name__))


def _structural(node: Manifest, types: Manifest, rules: list[Manifest]) -> Manifest:
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        beside = {key: value for key, value in node.items() if key != "$ref"}
        return _structural({**types[name], **beside}, types, _rules(name))
    if "anyOf" in node:
        return _structural(_union(node), types, rules)
    out = {
        key: value for key, value in node.items() if key not in (*_DROPPED, "$defs", "default", "properties")
    }
    # Kubernetes 1.20 takes an empty text as a default for null and refuses it; absent means the same here.
    if node.get("default") not in (None, ""):
        # An object's default is empty: the server then fills in the defaults of its fields.
        out["default"] = {} if node.get("type") == "object" else node["default"]
    if "properties" in node:
        out["properties"] = {
            name: _structural(child, types, []) for name, child in node["properties"].items()
        }
    if isinstance(node.get("additionalProperties"), dict):
        out["additionalProperties"] = _structural(node["additionalProperties"], types, [])
    if "exclusiveMinimum" in node:
        # OpenAPI 3.0, which Kubernetes speaks, has a flag beside the limit.
        out.update({"minimum": node["exclusiveMinimum"], "exclusiveMinimum": True})
    if "exclusiveMaximum" in node:
        out.update({"maximum": node["exclusiveMaximum"], "exclusiveMaximum": True})
    if "items" in node:
        out["items"] = _structural(node["items"], types, [])
    if "x-key" in node:
        out.update({"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [node["x-key"]]})
    if rules:
        out["x-kubernetes-validations"] = rules
    return out


def _union(node: Manifest) -> Manifest:
    """`X | None` becomes X, which is not required; text or integer becomes int-or-string."""
    beside = {key: value for key, value in node.items() if key != "anyOf"}
    choices = [choice for choice in node["anyOf"] if choice.get("type") != "null"]
    if len(choices) == 1:
        return {**choices[0], **beside}
    text, integer = choices
    limits = {key: value for part in (text, integer) for key, value in part.items() if key != "type"}
    return {**beside, **limits, "x-kubernetes-int-or-string": True}


def _rules(type_name: str) -> list[Manifest]:
    found = next((rules for kind, rules in RULES.items() if kind.__name__ == type_name), ())
    return [{"rule": rule.cel, "message": rule.message} for rule in found]


def _definition(
    kind: type[Api],
    names: Manifest,
    schemas: tuple[type[Api], type[Api]],
    columns: list[Manifest],
    scale: Manifest | None = None,
) -> Manifest:
    spec, status = (schema(part) for part in schemas)
    root: Manifest = {
        "type": "object",
        "description": (kind.__doc__ or "").strip(),
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
    }
    if rules := _rules(kind.__name__):
        root["x-kubernetes-validations"] = rules
    version: Manifest = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": root},
        "subresources": {"status": {}, **({"scale": scale} if scale else {})},
        "additionalPrinterColumns": columns,
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names['plural']}.{GROUP}"},
        "spec": {"group": GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
    }


def _column(name: str, path: str, kind: str = "string", priority: int = 0) -> Manifest:
    column: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path}
    return {**column, "priority": priority} if priority else column


_AGE = _column("Age", ".metadata.creationTimestamp", "date")


def _llmservices() -> Manifest:
    available = '.status.conditions[?(@.type=="Available")]'
    return _definition(
        LLMService,
        {
            "kind": "LLMService",
            "listKind": "LLMServiceList",
            "plural": "llmservices",
            "singular": "llmservice",
            "shortNames": ["llms"],
            "categories": ["all", "tandem"],
        },
        (LLMServiceSpec, LLMServiceStatus),
        [
            _column("Model", ".spec.model.name"),
            _column("Engine", ".spec.engine.type"),
            _column("Prefill", ".status.readiness.prefill"),
            _column("Decode", ".status.readiness.decode"),
            _column("Mixed", ".status.readiness.mixed", priority=1),
            _column("Available", f"{available}.status"),
            _column("Reason", f"{available}.reason"),
            _column("URL", ".status.url", priority=1),
            _AGE,
        ],
    )


def _workerpools() -> Manifest:
    return _definition(
        WorkerPool,
        {
            "kind": "WorkerPool",
            "listKind": "WorkerPoolList",
            "plural": "workerpools",
            "singular": "workerpool",
            "shortNames": ["pool"],
            "categories": ["tandem"],
        },
        (WorkerPoolSpec, WorkerPoolStatus),
        [
            _column("Service", ".spec.service"),
            _column("Role", ".spec.role"),
            _column("Desired", ".spec.replicas", "integer"),
            _column("Ready", ".status.ready", "integer"),
            _column("Revision", ".spec.revision", priority=1),
            _AGE,
        ],
        {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    )


if __name__ == "__main__":
    for argument in sys.argv[1:] or FOLDERS:
        write(Path(argument))
