"""Makes the children of one resource what they should be, with as few writes as that takes."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from tandem_operator.api import Manifest
from tandem_operator.conditions import Notice
from tandem_operator.drift import Change, Ref, plan
from tandem_operator.kube import ApiError, Kind, Kube
from tandem_operator.status import Fault

_TELLING: Mapping[str, str] = {"create": "Created", "update": "Updated", "delete": "Deleted"}


class RefusedError(Exception):
    """The children cannot be made, and nothing was changed."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


async def children(
    kube: Kube, parent: Manifest, labels: Mapping[str, str], kinds: Sequence[Kind]
) -> dict[Ref, Manifest]:
    """Objects with these labels that belong to `parent` or to nobody."""
    namespace, uid = parent["metadata"]["namespace"], parent["metadata"]["uid"]
    lists = await asyncio.gather(*(kube.list(kind, namespace, labels) for kind in kinds))
    found = (manifest for each in lists for manifest in each)
    return {Ref.of(manifest): manifest for manifest in found if controller(manifest) in (uid, None)}


def controller(manifest: Manifest) -> str | None:
    """The uid of the object that controls this one."""
    owners = manifest["metadata"].get("ownerReferences", ())
    return next((owner["uid"] for owner in owners if owner.get("controller")), None)


async def converge(
    kube: Kube,
    parent: Manifest,
    desired: Sequence[Manifest],
    live: Mapping[Ref, Manifest],
    *,
    settled: bool,
    preview: Iterable[Manifest] = (),
) -> tuple[list[Change], dict[Ref, Manifest]]:
    """Carry out what `drift.plan` says; the changes, and the children as they are afterwards.

    New and changed children, and those in `preview`, are first tried without effect (dry run). RefusedError
    if the API server takes one of them amiss or its name belongs to somebody else: nothing was written then.
    """
    wanted = {Ref.of(manifest) for manifest in desired}
    uid = parent["metadata"]["uid"]
    ours = {ref: child for ref, child in live.items() if ref in wanted or controller(child) == uid}
    changes = plan(desired, ours, settled=settled)
    await _check(kube, changes, live, preview)
    after = dict(ours)
    for change in changes:
        ref = Ref.of(change.manifest)
        if change.action == "delete":
            await kube.delete(change.manifest)
            del after[ref]
        else:
            after[ref] = await _apply(kube, change.manifest)
    return changes, after


def told(changes: Iterable[Change]) -> list[Notice]:
    """Events for what was done: one for each kind of action, one for each restored child."""
    notices = [
        Notice("Warning", "Restored", f"{Ref.of(change.manifest)}: {change.detail}")
        for change in changes
        if change.action == "restore"
    ]
    for action, word in _TELLING.items():
        names = [str(Ref.of(change.manifest)) for change in changes if change.action == action]
        if names:
            notices.append(Notice("Normal", word, ", ".join(names)))
    return notices


async def _check(
    kube: Kube, changes: Iterable[Change], live: Mapping[Ref, Manifest], preview: Iterable[Manifest]
) -> None:
    writes = [change.manifest for change in changes if change.action in ("create", "update")]
    for manifest in (change.manifest for change in changes if change.action in ("create", "restore")):
        ref, namespace = Ref.of(manifest), manifest["metadata"]["namespace"]
        if ref not in live and await kube.get((ref.api_version, ref.kind), namespace, ref.name):
            raise RefusedError(Fault("NameConflict", f"{ref} exists and belongs to something else"))
    for manifest in (*writes, *(preview if writes else ())):
        try:
            await _apply(kube, manifest, dry_run=True)
        except ApiError as error:
            # It refers to what this pass makes first: a RoleBinding to its Role, say.
            if error.status != 404:
                raise


async def _apply(kube: Kube, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
    try:
        return await kube.apply(manifest, dry_run=dry_run)
    except ApiError as error:
        if not error.refused:
            raise
        raise RefusedError(Fault("Refused", f"{Ref.of(manifest)}: {error.message}")) from error
