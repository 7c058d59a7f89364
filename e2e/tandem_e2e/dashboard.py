"""The expressions of a Grafana dashboard."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tandem_e2e.settings import REPO

DASHBOARD = REPO / "charts/tandem/dashboards/llmservice.json"


@dataclass(frozen=True, slots=True)
class Expression:
    """One query of one panel."""

    panel: str
    text: str

    def filled(self, variables: Mapping[str, str]) -> str:
        """The PromQL with the dashboard's variables replaced, the longest name first."""
        text = self.text
        for name in sorted(variables, key=len, reverse=True):
            text = text.replace(f"${name}", variables[name])
        return text


def panels(path: Path = DASHBOARD) -> list[dict[str, Any]]:
    """All panels, those inside collapsed rows too."""
    top = json.loads(path.read_text())["panels"]
    return [panel for outer in top for panel in (outer, *outer.get("panels", ()))]


def expressions(path: Path = DASHBOARD) -> list[Expression]:
    """Every query of every panel, in the order of the screen."""
    return [
        Expression(panel["title"], target["expr"])
        for panel in panels(path)
        for target in panel.get("targets", ())
    ]
