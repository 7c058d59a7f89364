"""A file with an LLMService in it -> the resource, and the Deployments that the operator would make of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from tandem_operator.api import LLMService, Manifest
from tandem_operator.desired import children, pool_children
from tandem_operator.validation import InvalidResourceError, load_pool, load_service


class SourceError(ValueError):
    """The file cannot be served. The text says why, for people."""


@dataclass(frozen=True, slots=True)
class Deployments:
    """The router's Deployment, and one for each pool by the pool's name."""

    router: Manifest
    pools: Mapping[str, Manifest]


def read_service(path: Path) -> LLMService:
    """The one LLMService in a YAML file; other documents in it are passed over. Raises SourceError."""
    try:
        documents = list(yaml.safe_load_all(path.read_text()))
    except OSError as error:
        raise SourceError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: is no text") from error
    except yaml.YAMLError as error:
        raise SourceError(f"{path}: {_yaml_problem(error)}") from error
    found = [document for document in documents if _is_service(document)]
    if len(found) != 1:
        raise SourceError(f"{path}: has {len(found) or 'no'} LLMService documents; one is needed")
    try:
        return load_service(found[0])
    except InvalidResourceError as error:
        raise SourceError(f"{path}: {'; '.join(str(error).splitlines())}") from error


def with_port(service: LLMService, port: int) -> LLMService:
    """The same service with its router on another port."""
    router = service.spec.router.model_copy(update={"port": port})
    return service.model_copy(update={"spec": service.spec.model_copy(update={"router": router})})


def deployments(service: LLMService) -> Deployments:
    """What the operator would apply, down to the Deployments."""
    manifests = children(service)
    pools = [load_pool(manifest) for manifest in manifests if manifest["kind"] == "WorkerPool"]
    return Deployments(
        router=next(manifest for manifest in manifests if manifest["kind"] == "Deployment"),
        pools={pool.spec.pool: pool_children(pool)[0] for pool in pools},
    )


def _is_service(document: object) -> bool:
    return isinstance(document, dict) and document.get("kind") == "LLMService"


def _yaml_problem(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return f"bad YAML in line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return "bad YAML: " + " ".join(str(error).split())
