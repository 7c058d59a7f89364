"""kopf: what is watched, how, and where it goes. Nothing is decided here."""

from typing import Any

import kopf

from tandem_operator.controller import Controller
from tandem_operator.desired.names import MANAGED_BY, MANAGER
from tandem_operator.kube import CHILDREN, POOLS, SERVICES, Kind

OURS = (SERVICES, POOLS)
WATCHED = (SERVICES, *CHILDREN)
# kopf ends the operator after the last of them: an API server may be away for an hour.
RETRY_SECONDS = (1, 1, 2, 3, 5, *(8,) * 450)


def registry(controller: Controller) -> kopf.OperatorRegistry:
    """Handlers that tell the controller of every object that comes, changes or goes."""
    handlers = kopf.OperatorRegistry()

    async def saw(body: kopf.Body, **_: Any) -> None:
        controller.saw(body)

    for kind in WATCHED:
        kopf.on.event(*_resource(kind), id=kind[1], registry=handlers)(saw)
    kopf.on.login(registry=handlers)(kopf.login_via_client)
    return handlers


def settings() -> kopf.OperatorSettings:
    """Only children that carry our label are streamed; a watch that falls silent is opened again."""
    chosen = kopf.OperatorSettings()
    chosen.peering.standalone = True
    chosen.posting.enabled = False
    chosen.scanning.disabled = True
    chosen.networking.request_timeout = 30
    chosen.networking.connect_timeout = 5
    chosen.networking.error_backoffs = RETRY_SECONDS
    chosen.watching.connect_timeout = 5
    chosen.watching.server_timeout = 290
    chosen.watching.client_timeout = 320
    for kind in CHILDREN:
        if kind not in OURS:
            chosen.watching.label_selectors[_resource(kind)] = f"{MANAGED_BY}={MANAGER}"
    return chosen


def _resource(kind: Kind) -> tuple[str, str, str]:
    """Group, version and kind, as kopf names a resource."""
    group, _, version = kind[0].rpartition("/")
    return group, version, kind[1]
