"""An API server in memory, over HTTP: objects, apply, dry run, status, scale, labels, uids, failures."""

import copy
import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tandem_operator.api import Manifest
from tandem_operator.cluster_config import Cluster
from tandem_operator.kube import Kube, connect

COLLECTION = re.compile(r"^/apis?/.*?v1[a-z0-9]*(/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[a-z]+)$")
Refusal = Callable[[Manifest], str | None]


@dataclass
class FakeApi:
    """What a test may look at and change. `writes` lists method and path of what was no dry run."""

    objects: dict[str, Manifest] = field(default_factory=dict)
    writes: list[tuple[str, str]] = field(default_factory=list)
    refuse: Refusal = lambda _: None
    failing: int | None = None
    failing_on: str = ""
    version: int = 0

    def put(self, manifest: Manifest) -> Manifest:
        """An object as a user's `kubectl apply` would leave it."""
        return self._store(_path(manifest), copy.deepcopy(manifest))

    def named(self, kind: str, name: str) -> Manifest:
        return next(item for path, item in self.objects.items() if path.endswith(f"/{kind.lower()}s/{name}"))

    def names(self, kind: str) -> list[str]:
        return sorted(path.rpartition("/")[2] for path in self.objects if f"/{kind.lower()}s/" in path)

    def edit(self, kind: str, name: str, **spec: Any) -> None:
        """Somebody changes an object's spec."""
        manifest = self.named(kind, name)
        self._store(_path(manifest), {**manifest, "spec": {**manifest["spec"], **spec}})

    def remove(self, kind: str, name: str) -> None:
        del self.objects[_path(self.named(kind, name))]

    def events(self, reason: str) -> list[str]:
        """Messages of the Events with this reason."""
        found = [item for path, item in self.objects.items() if "/events/" in path]
        return [item["message"] for item in found if item["reason"] == reason]

    def _store(self, path: str, manifest: Manifest) -> Manifest:
        before = self.objects.get(path)
        self.version += 1
        meta = manifest["metadata"] = {**(before or {}).get("metadata", {}), **manifest["metadata"]}
        meta.setdefault("uid", f"uid-{self.version}")
        changed = before is None or before.get("spec") != manifest.get("spec")
        meta["generation"] = meta.get("generation", 0) + changed
        meta["resourceVersion"] = str(self.version)
        if before is not None and "status" in before:
            manifest.setdefault("status", before["status"])
        self.objects[path] = manifest
        return manifest

    async def handle(self, request: web.Request) -> web.Response:
        if self.failing is not None and self.failing_on in request.path:
            return _error(self.failing, "Failing", "the test said so")
        method, path = request.method, request.path
        if method == "GET":
            return self._get(request, path)
        if "dryRun" not in request.query:
            self.writes.append((method, path))
        body = json.loads(await request.text())
        if method == "DELETE":
            return self._delete(path, body)
        if request.content_type == "application/apply-patch+yaml":
            return self._apply(path, body, dry="dryRun" in request.query)
        return self._patch_subresource(path, body)

    def _get(self, request: web.Request, path: str) -> web.Response:
        if path in self.objects:
            return web.json_response(self.objects[path])
        kind = COLLECTION.match(path)
        if kind is None:
            return _error(404, "NotFound", "not found")
        query = request.query.get("labelSelector", "")
        wanted = dict(pair.split("=", 1) for pair in query.split(",") if pair)
        place = f"/namespaces/{kind['namespace']}/" if kind["namespace"] else "/"
        found = (item for key, item in self.objects.items() if f"/{kind['plural']}/" in key and place in key)
        items = [item for item in found if wanted.items() <= item["metadata"].get("labels", {}).items()]
        return web.json_response({"items": items, "metadata": {}})

    def _delete(self, path: str, body: Manifest) -> web.Response:
        found = self.objects.get(path)
        if found is None:
            return _error(404, "NotFound", "not found")
        if body["preconditions"]["uid"] != found["metadata"]["uid"]:
            return _error(409, "Conflict", "another uid")
        return web.json_response(self.objects.pop(path))

    def _apply(self, path: str, body: Manifest, *, dry: bool) -> web.Response:
        if message := self.refuse(body):
            return _error(422, "Invalid", message)
        found = self.objects.get(path)
        version = body["metadata"].pop("resourceVersion", None)
        if found is not None and version not in (None, found["metadata"]["resourceVersion"]):
            return _error(409, "Conflict", "the object has been modified")
        return web.json_response(body if dry else self._store(path, body))

    def _patch_subresource(self, path: str, body: Any) -> web.Response:
        path, _, subresource = path.rpartition("/")
        manifest = self.objects.get(path)
        if manifest is None:
            return _error(404, "NotFound", "not found")
        if subresource == "status":
            assert body[0] == {"op": "test", "path": "/metadata/uid", "value": manifest["metadata"]["uid"]}
            return web.json_response(self._store(path, {**manifest, "status": body[1]["value"]}))
        replicas = body["spec"]["replicas"]
        return web.json_response(
            self._store(path, {**manifest, "spec": {**manifest["spec"], "replicas": replicas}})
        )


def _path(manifest: Manifest) -> str:
    version, kind, meta = manifest["apiVersion"], manifest["kind"], manifest["metadata"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    return f"{root}/namespaces/{meta['namespace']}/{kind.lower()}s/{meta['name']}"


def _error(status: int, reason: str, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "reason": reason, "message": message}, status=status)


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
async def kube(api: FakeApi) -> AsyncIterator[Kube]:
    """A Kube that is connected to `api`."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", api.handle)
    async with TestServer(application) as server:
        cluster = Cluster(str(server.make_url("")).rstrip("/"), tls=False, headers=dict)
        async with connect(cluster) as found:
            yield found
