"""What people are told about a spec that is wrong."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem_operator.api import Manifest
from tandem_operator.validation import InvalidResourceError, load_service

Patched = Callable[[Manifest], Manifest]


def said(service: Manifest) -> list[str]:
    with pytest.raises(InvalidResourceError) as refusal:
        load_service(service)
    return str(refusal.value).splitlines()


def test_a_misspelt_field_is_named_with_the_likely_one(manifest: Patched) -> None:
    assert said(manifest({"spec": {"slo": {"tfft": "1s"}}})) == [
        "spec.slo.tfft: is no known field; did you mean ttft?"
    ]


def test_a_pattern_is_explained_in_words(manifest: Patched) -> None:
    assert said(manifest({"spec": {"slo": {"ttft": "fast"}}})) == [
        'spec.slo.ttft: must be a duration greater than zero, such as 500ms or 30s, not "fast"'
    ]


def test_a_choice_lists_what_may_be_chosen(manifest: Patched) -> None:
    assert said(manifest({"spec": {"engine": {"type": "tgi"}}})) == [
        "spec.engine.type: must be 'native', 'vllm', 'sglang' or 'trtllm', not \"tgi\""
    ]


def test_every_problem_is_told_at_once(manifest: Patched) -> None:
    change = {"spec": {"router": {"port": 1}, "slo": {"attainment": 2}, "model": {"name": ""}}}
    assert {line.partition(":")[0] for line in said(manifest(change))} == {
        "spec.router.port",
        "spec.slo.attainment",
        "spec.model.name",
    }


def test_a_wrong_item_does_not_make_its_list_too_short(manifest: Patched) -> None:
    lines = said(manifest({"spec": {"pools": [{"name": "a", "role": "x"}]}}))
    assert [line.partition(":")[0] for line in lines] == ["spec.pools[0].role"]


def test_a_flood_of_problems_is_cut(manifest: Patched) -> None:
    pools = [{"name": f"p{number}", "role": "x"} for number in range(16)]
    lines = said(manifest({"spec": {"pools": pools}}))
    assert len(lines) == 9
    assert lines[-1] == "and 8 more"


def test_a_long_value_is_not_repeated_in_full(manifest: Patched) -> None:
    lines = said(manifest({"spec": {"engine": {"type": "x" * 5000}}}))
    assert len(lines[0]) < 200


@pytest.mark.parametrize("spec", [None, [], "text", 3])
def test_a_spec_of_another_shape_is_one_problem(manifest: Patched, spec: object) -> None:
    service = {**manifest({}), "spec": spec}
    assert [line.partition(":")[0] for line in said(service)] == ["spec"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, st.sampled_from(["model", "engine", "pools", "slo", "autoscaling", "router", "kvTransfer"]))
def test_whatever_is_written_is_accepted_or_refused_with_a_field(
    manifest: Patched, value: object, field: str
) -> None:
    service = manifest({})
    service["spec"] = {**service["spec"], field: value}
    fields = []
    try:
        load_service(service)
    except InvalidResourceError as refusal:
        fields = [problem.field for problem in refusal.problems]
    assert all(name.startswith("spec") for name in fields)
