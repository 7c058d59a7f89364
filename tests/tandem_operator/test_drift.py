"""What is written, and what is left alone."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem_operator.api import LLMService, Manifest, WorkerPool
from tandem_operator.desired import children, pool_children
from tandem_operator.drift import Change, Ref, difference, plan

MakeService = Callable[..., LLMService]


def applied(changes: list[Change]) -> dict[Ref, Manifest]:
    """As an API server would hold them: with fields of its own."""
    live = {Ref.of(change.manifest): copy.deepcopy(change.manifest) for change in changes}
    for manifest in live.values():
        manifest["metadata"] |= {"resourceVersion": "7", "uid": "u", "creationTimestamp": "now"}
        manifest["status"] = {"some": "thing"}
    return live


@pytest.fixture
def deployment(make_service: MakeService) -> Manifest:
    pool = next(each for each in children(make_service()) if each["kind"] == "WorkerPool")
    return pool_children(WorkerPool.model_validate(pool))[0]


def actions(changes: list[Change]) -> list[tuple[str, str, str]]:
    return [(change.action, str(Ref.of(change.manifest)), change.detail) for change in changes]


def test_what_is_not_there_is_created(make_service: MakeService) -> None:
    changes = plan(children(make_service()), {}, settled=False)
    assert {change.action for change in changes} == {"create"}
    assert len(changes) == 8


def test_what_was_there_before_is_restored(deployment: Manifest) -> None:
    assert actions(plan([deployment], {}, settled=True)) == [
        ("restore", "Deployment base-prefill", "it was deleted")
    ]


def test_nothing_is_written_when_all_is_as_it_should_be(make_service: MakeService) -> None:
    desired = children(make_service())
    assert plan(desired, applied(plan(desired, {}, settled=False)), settled=True) == []


def test_a_new_spec_is_an_update_and_no_repair(make_service: MakeService) -> None:
    live = applied(plan(children(make_service()), {}, settled=False))
    changes = plan(children(make_service(router={"replicas": 3})), live, settled=False)
    assert actions(changes) == [("update", "Deployment base-router", "")]


def test_an_edited_child_is_restored_and_the_field_is_told(deployment: Manifest) -> None:
    live = applied(plan([deployment], {}, settled=False))
    next(iter(live.values()))["spec"]["template"]["spec"]["containers"][0]["image"] = "evil"
    assert actions(plan([deployment], live, settled=True)) == [
        (
            "restore",
            "Deployment base-prefill",
            "spec.template.spec.containers[worker].image was changed",
        )
    ]


def test_a_number_is_told_with_its_values(deployment: Manifest) -> None:
    live = applied(plan([deployment], {}, settled=False))
    next(iter(live.values()))["spec"]["replicas"] = 7
    assert plan([deployment], live, settled=True)[0].detail == "spec.replicas was 7, is 1 again"


def test_a_text_that_may_be_private_is_not_repeated(deployment: Manifest) -> None:
    live = applied(plan([deployment], {}, settled=False))
    env = next(iter(live.values()))["spec"]["template"]["spec"]["containers"][0]["args"]
    env[1] = "s3cret"
    assert "s3cret" not in plan([deployment], live, settled=True)[0].detail


def test_a_child_that_is_no_longer_wanted_goes_last(make_service: MakeService) -> None:
    live = applied(plan(children(make_service()), {}, settled=False))
    mixed = make_service(pools=[{"name": "all", "role": "mixed"}])
    assert [action for action, *_ in actions(plan(children(mixed), live, settled=False))] == [
        "create",
        "delete",
        "delete",
    ]


def test_a_child_that_is_going_is_left_to_go(deployment: Manifest) -> None:
    live = applied(plan([deployment], {}, settled=False))
    next(iter(live.values()))["metadata"]["deletionTimestamp"] = "now"
    assert plan([deployment], live, settled=True) == []
    assert plan([], live, settled=True) == []


def test_a_pool_that_somebody_scaled_is_no_drift(make_service: MakeService) -> None:
    desired = children(make_service())
    live = applied(plan(desired, {}, settled=False))
    for manifest in (*live.values(), *desired):
        if manifest["kind"] == "WorkerPool":
            manifest["spec"]["replicas"] = 5
    assert plan(desired, live, settled=True) == []


def test_a_write_to_a_pool_never_undoes_a_change_that_was_not_seen(make_service: MakeService) -> None:
    desired = children(make_service())
    live = applied(plan(desired, {}, settled=False))
    changed = children(make_service(model={"maxModelLen": 9}))
    pools = [
        change for change in plan(changed, live, settled=False) if change.manifest["kind"] == "WorkerPool"
    ]
    assert [change.manifest["metadata"]["resourceVersion"] for change in pools] == ["7", "7"]


@pytest.mark.parametrize(
    ("desired", "live", "path"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, None),
        ({"a": 1}, {"a": 2}, "a"),
        ({"a": 1}, {}, "a"),
        ({"a": {}, "b": [], "c": ""}, {}, None),
        ({"a": {"b": 1}}, {"a": None}, "a.b"),
        ({"l": [1, 2]}, {"l": [1, 2, 3]}, "l"),
        ({"l": [{"name": "x", "v": 1}]}, {"l": [{"name": "y"}, {"name": "x", "v": 1}]}, None),
        ({"l": [{"name": "x", "v": 1}]}, {"l": [{"name": "x", "v": 2}]}, "l[x].v"),
        ({"l": [{"name": "x"}]}, {"l": []}, "l[x].name"),
        ({"l": [{"k": 1}]}, {"l": [{"k": 2}]}, "l[0].k"),
        ({"limits": {"cpu": "1000m"}}, {"limits": {"cpu": "1"}}, "limits.cpu"),
        ({"r": {"limits": {"cpu": "1000m"}}}, {"r": {"limits": {"cpu": "1"}}}, None),
        ({"r": {"limits": {"cpu": "2"}}}, {"r": {"limits": {"cpu": "1"}}}, "r.limits.cpu"),
        ({"args": ["1000m"]}, {"args": ["1"]}, "args[0]"),
    ],
)
def test_differences(desired: Any, live: Any, path: str | None) -> None:
    found = difference(desired, live)
    assert (found.path if found else None) == path


TREES = st.recursive(
    st.integers() | st.text(max_size=3) | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(TREES)
def test_nothing_differs_from_itself(tree: object) -> None:
    assert difference(tree, copy.deepcopy(tree)) is None
