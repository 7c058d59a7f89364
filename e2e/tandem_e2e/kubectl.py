"""kubectl, the client that the run uses throughout."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from tandem_e2e.shell import CommandError, run

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl with a kubeconfig and a namespace."""

    binary: Path
    kubeconfig: Path
    namespace: str = "default"

    def __call__(self, *arguments: str, stdin: str | None = None, timeout: float = 60.0) -> str:
        """Run kubectl and return what it printed, stripped."""
        return run(*self.command(*arguments), stdin=stdin, timeout=timeout).strip()

    def command(self, *arguments: str) -> list[str]:
        """The command line of `kubectl` with these arguments."""
        fixed = [str(self.binary), f"--kubeconfig={self.kubeconfig}", f"--namespace={self.namespace}"]
        return [*fixed, *arguments]

    def within(self, namespace: str) -> "Kubectl":
        """The same for another namespace."""
        return replace(self, namespace=namespace)

    def apply(self, *manifests: Object, options: tuple[str, ...] = ()) -> None:
        self("apply", *options, "-f", "-", stdin=yaml.safe_dump_all(manifests))

    def get(self, kind: str, name: str) -> Object | None:
        """The object, or None when there is none."""
        found = self("get", kind, name, "--ignore-not-found", "-o", "json")
        return json.loads(found) if found else None

    def all(self, kind: str, selector: str = "") -> list[Object]:
        """The objects of a kind (or kinds, with commas) that carry those labels."""
        found: list[Object] = json.loads(self("get", kind, f"--selector={selector}", "-o", "json"))["items"]
        return found

    def patch(self, kind: str, name: str, change: Object, *options: str) -> None:
        self("patch", kind, name, "--type=merge", f"--patch={json.dumps(change)}", *options)

    def condition(self, kind: str, name: str, type_: str) -> Object:
        """The condition of that type; an empty object when it is not there yet."""
        found = self.get(kind, name) or {}
        conditions = found.get("status", {}).get("conditions", [])
        return next((condition for condition in conditions if condition["type"] == type_), {})

    def events(self, name: str) -> list[Object]:
        """The events about an object of that name, oldest first."""
        found: list[Object] = json.loads(
            self("get", "events", f"--field-selector=involvedObject.name={name}", "-o", "json")
        )["items"]
        return sorted(found, key=lambda event: event["metadata"]["creationTimestamp"])

    def exists(self, kind: str, name: str) -> bool:
        try:
            return self.get(kind, name) is not None
        except CommandError:
            return False
