"""A file with an LLMService in it -> the resource, and the Deployments that the operator would make of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

from tandem_operator.api import LLMService, Manifest
from tandem_operator.desired import children, pool_children
from tandem_operator.documents import DocumentError, services
from tandem_operator.validation import load_pool


@dataclass(frozen=True, slots=True)
class Deployments:
    """The router's Deployment, and one for each pool by the pool's name."""

    router: Manifest
    pools: Mapping[str, Manifest]


def one_service(stream: TextIO) -> LLMService:
    """The LLMService in a YAML stream that holds no other. Raises DocumentError."""
    found = services(stream)
    if len(found) > 1:
        raise DocumentError(f"{stream.name} holds {len(found)} LLMServices; one is served at a time")
    return found[0]


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
