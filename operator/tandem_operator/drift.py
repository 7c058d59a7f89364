"""Whether an object in the cluster still is what the operator wants, and what to do where it is not. Pure."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from tandem_operator.api import Manifest
from tandem_operator.units import quantity

APPLIED = "tandemserve.dev/applied"


@dataclass(frozen=True, slots=True)
class Difference:
    """A field that is not as desired. Values are shown only if they are numbers: others may be private."""

    path: str
    desired: object = None
    live: object = None

    def __str__(self) -> str:
        if isinstance(self.desired, int) and isinstance(self.live, int):
            return f"{self.path} was {self.live}, is {self.desired} again"
        return f"{self.path} was changed"


class Ref(NamedTuple):
    """Which object of a namespace."""

    api_version: str
    kind: str
    name: str

    @classmethod
    def of(cls, manifest: Manifest) -> "Ref":
        return cls(manifest["apiVersion"], manifest["kind"], manifest["metadata"]["name"])

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Change:
    """One write. `restore` undoes what somebody else did to a child; `detail` says what that was."""

    action: Literal["create", "update", "restore", "delete"]
    manifest: Manifest
    detail: str = ""


def plan(desired: Iterable[Manifest], live: Mapping[Ref, Manifest], *, settled: bool) -> list[Change]:
    """The writes that make `live` into `desired`, in the order of `desired`, deletions last.

    `settled`: the resource's present generation was fully applied before, so a missing child was deleted.
    """
    wanted = {Ref.of(manifest): manifest for manifest in desired}
    changes = [
        change for ref, manifest in wanted.items() if (change := _change(manifest, live.get(ref), settled))
    ]
    surplus = [manifest for ref, manifest in live.items() if ref not in wanted and not ending(manifest)]
    return [*changes, *(Change("delete", manifest) for manifest in surplus)]


def ending(manifest: Manifest) -> bool:
    """Somebody has deleted it already."""
    return "deletionTimestamp" in manifest["metadata"]


def _change(desired: Manifest, live: Manifest | None, settled: bool) -> Change | None:
    manifest = _stamped(desired)
    if live is None:
        return Change("restore", manifest, "it was deleted") if settled else Change("create", manifest)
    if ending(live):
        return None
    if desired["kind"] == "WorkerPool":
        # Its size may be changed by others at any time: refuse to write over a change not yet seen.
        manifest["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
    if live["metadata"].get("annotations", {}).get(APPLIED) != manifest["metadata"]["annotations"][APPLIED]:
        return Change("update", manifest)
    found = difference(desired, live)
    return Change("restore", manifest, str(found)) if found else None


def _stamped(manifest: Manifest) -> Manifest:
    meta = manifest["metadata"]
    annotations = {**meta.get("annotations", {}), APPLIED: fingerprint(manifest)}
    return {**manifest, "metadata": {**meta, "annotations": annotations}}


def fingerprint(manifest: Manifest) -> str:
    """A hash of what the operator wants. A WorkerPool's size is left out: others set that too."""
    content = manifest
    if manifest["kind"] == "WorkerPool":
        spec = {key: value for key, value in manifest["spec"].items() if key != "replicas"}
        content = {**manifest, "spec": spec}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def difference(desired: object, live: object, path: str = "") -> Difference | None:
    """The first field where `live` does not hold what `desired` says; more in `live` is no difference."""
    if isinstance(desired, dict):
        return _mapping_difference(desired, live, path)
    if isinstance(desired, list):
        return _list_difference(desired, live, path)
    if desired == live or (_is_quantity(path) and _same_quantity(desired, live)):
        return None
    return Difference(path, desired, live)


def _mapping_difference(desired: Mapping[str, Any], live: object, path: str) -> Difference | None:
    found = live if isinstance(live, dict) else {}
    for key, value in desired.items():
        below = f"{path}.{key}" if path else key
        if key in found:
            if different := difference(value, found[key], below):
                return different
        elif value not in ("", None, {}, []):  # the API server leaves out what is empty
            return Difference(below)
    return None


def _list_difference(desired: list[Any], live: object, path: str) -> Difference | None:
    found = live if isinstance(live, list) else []
    if desired and all(isinstance(item, dict) and "name" in item for item in desired):
        named = {item.get("name"): item for item in found if isinstance(item, dict)}
        pairs = [(f"{path}[{item['name']}]", item, named.get(item["name"])) for item in desired]
    elif len(desired) == len(found):
        pairs = [(f"{path}[{index}]", *pair) for index, pair in enumerate(zip(desired, found, strict=True))]
    else:
        return Difference(path)
    return next((below for where, want, have in pairs if (below := difference(want, have, where))), None)


def _is_quantity(path: str) -> bool:
    return ".limits." in path or ".requests." in path


def _same_quantity(one: object, other: object) -> bool:
    try:
        return quantity(str(one)) == quantity(str(other))
    except ValueError:
        return False
