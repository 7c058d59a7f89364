"""Command lines of the router and the workers, from the manifests that the operator would apply."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from tandem_operator.api import LLMService, Manifest, WorkerPool
from tandem_operator.desired import children, pool_children

_REFERENCE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")


@dataclass(frozen=True, slots=True)
class Program:
    """A container's command line and environment, its references expanded, and its pod's labels."""

    command: tuple[str, ...]
    env: Mapping[str, str]
    labels: Mapping[str, str]


def router(service: Path, address: str, discovery: str) -> Program:
    """The router of the LLMService in that file, told to find its workers where `discovery` says."""
    (deployment,) = (child for child in _children(service) if child["kind"] == "Deployment")
    program = _program(deployment, address)
    return replace(program, env={**program.env, "TANDEM_DISCOVERY": discovery})


def worker(service: Path, pool: str, address: str) -> Program:
    """A worker of that pool of the LLMService in that file."""
    pools = (
        WorkerPool.model_validate(child) for child in _children(service) if child["kind"] == "WorkerPool"
    )
    (deployment,) = (child for p in pools if p.spec.pool == pool for child in pool_children(p))
    return _program(deployment, address)


def _children(service: Path) -> list[Manifest]:
    return children(LLMService.model_validate(yaml.safe_load(service.read_text(encoding="utf-8"))))


def _program(deployment: Manifest, address: str) -> Program:
    template = deployment["spec"]["template"]
    (container,) = template["spec"]["containers"]
    env = {"POD_IP": address, "POD_NAME": deployment["metadata"]["name"]}
    for variable in container["env"]:
        if "value" in variable:
            env[variable["name"]] = _expand(variable["value"], env)
    command = tuple(_expand(word, env) for word in (*container["command"], *container["args"]))
    return Program(command, env, template["metadata"]["labels"])


def _expand(text: str, env: Mapping[str, str]) -> str:
    return _REFERENCE.sub(lambda found: env.get(found[1], found[0]), text)
