"""The only module that talks to the Kubernetes API: a few calls, each with a timeout, none retried here."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from tandem_operator.api import API_VERSION, Manifest
from tandem_operator.cluster_config import Cluster
from tandem_operator.desired.names import MANAGER

TIMEOUT = aiohttp.ClientTimeout(total=20, connect=5)
MAX_CONNECTIONS = 20
PAGE = 500

RBAC = "rbac.authorization.k8s.io/v1"
SERVICES = (API_VERSION, "LLMService")
POOLS = (API_VERSION, "WorkerPool")
DEPLOYMENTS = ("apps/v1", "Deployment")
PODS = ("v1", "Pod")
CHILDREN = (
    ("v1", "ServiceAccount"),
    ("v1", "ConfigMap"),
    ("v1", "Service"),
    (RBAC, "Role"),
    (RBAC, "RoleBinding"),
    DEPLOYMENTS,
    POOLS,
)
Kind = tuple[str, str]


class ApiError(Exception):
    """The API server refused. `reason` is its own word, such as Conflict; `message` its text.

    `gone`: the object, or the whole namespace, is not there any more or is going.
    """

    def __init__(self, status: int, reason: str, message: str, *, ending: bool = False) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.gone = ending or status == 404

    @property
    def refused(self) -> bool:
        """The object itself is at fault: the same request will fail again."""
        return self.status in (400, 403, 422) and not self.gone


class Kube:
    """Calls on one API server. Manifests go in and come out as plain mappings."""

    def __init__(self, cluster: Cluster, session: aiohttp.ClientSession) -> None:
        self._cluster = cluster
        self._session = session

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        """The object, or None if there is none."""
        try:
            return await self._call("GET", _path(kind, namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def list(
        self, kind: Kind, namespace: str | None, labels: Mapping[str, str] | None = None
    ) -> list[Manifest]:
        """All objects with these labels, in one namespace or (None) in all."""
        query = {"limit": str(PAGE)}
        if labels:
            query["labelSelector"] = ",".join(f"{key}={value}" for key, value in labels.items())
        found: list[Manifest] = []
        while True:
            page = await self._call("GET", _path(kind, namespace), query)
            # Items of a list come without these two.
            found += ({"apiVersion": kind[0], "kind": kind[1], **item} for item in page["items"])
            proceed = page["metadata"].get("continue")
            if not proceed:
                return found
            query["continue"] = proceed

    async def apply(self, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """Server-side apply as the operator's field manager, taking over fields that others set."""
        meta = manifest["metadata"]
        query = {"fieldManager": MANAGER, "force": "true"}
        if dry_run:
            query["dryRun"] = "All"
        path = _path(_kind(manifest), meta["namespace"], meta["name"])
        return await self._call("PATCH", path, query, manifest, "application/apply-patch+yaml")

    async def delete(self, manifest: Manifest) -> None:
        """Delete this very object (by uid), its dependents after it. One that is gone is no error."""
        meta = manifest["metadata"]
        body = {"propagationPolicy": "Background", "preconditions": {"uid": meta["uid"]}}
        try:
            await self._call("DELETE", _path(_kind(manifest), meta["namespace"], meta["name"]), {}, body)
        except ApiError as error:
            if error.status not in (404, 409):
                raise

    async def write_status(self, manifest: Manifest, status: Manifest) -> None:
        """Replace the whole status of this very object; 409 if it is another one by now."""
        meta = manifest["metadata"]
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": meta["uid"]},
            {"op": "add", "path": "/status", "value": status},
        ]
        path = _path(_kind(manifest), meta["namespace"], meta["name"]) + "/status"
        await self._call("PATCH", path, {"fieldManager": MANAGER}, patch, "application/json-patch+json")

    async def scale(self, namespace: str, pool: str, replicas: int) -> None:
        """Set a WorkerPool's replicas through its scale subresource."""
        patch = {"spec": {"replicas": replicas}}
        path = _path(POOLS, namespace, pool) + "/scale"
        await self._call("PATCH", path, {"fieldManager": MANAGER}, patch, "application/merge-patch+json")

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content: str = "application/json",
    ) -> Manifest:
        headers = {**self._cluster.headers(), "content-type": content, "accept": "application/json"}
        data = None if body is None else json.dumps(body)
        url = self._cluster.url + path
        async with self._session.request(
            method, url, params=query, data=data, headers=headers, ssl=self._cluster.tls
        ) as answer:
            payload = await answer.text()
            if answer.status >= 300:
                raise _error(answer.status, payload)
            result: Manifest = json.loads(payload)
            return result


@asynccontextmanager
async def connect(cluster: Cluster) -> AsyncIterator[Kube]:
    """A Kube whose connections are closed at the end."""
    connector = aiohttp.TCPConnector(limit=MAX_CONNECTIONS)
    async with aiohttp.ClientSession(timeout=TIMEOUT, connector=connector) as session:
        yield Kube(cluster, session)


def _kind(manifest: Manifest) -> Kind:
    return manifest["apiVersion"], manifest["kind"]


def _path(kind: Kind, namespace: str | None, name: str | None = None) -> str:
    version, singular = kind
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    scope = f"/namespaces/{namespace}" if namespace else ""
    # Every kind that we use forms its plural so.
    return f"{root}{scope}/{singular.lower()}s" + (f"/{name}" if name else "")


def _error(status: int, payload: str) -> ApiError:
    try:
        answer: Any = json.loads(payload)
    except ValueError:
        answer = {}
    if not isinstance(answer, dict):
        answer = {}
    reason, message = str(answer.get("reason") or "Error"), str(answer.get("message") or payload[:500])
    return ApiError(status, reason, message, ending=status == 403 and "NamespaceTerminating" in payload)
