"""The CRD with its CEL rules and the operator itself accept and refuse the same specs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tandem_operator.api import Manifest
from tandem_operator.rules import RULES
from tandem_operator.validation import InvalidResourceError, load_service

SPECS: Any = yaml.safe_load((Path(__file__).parent / "specs.yaml").read_text(encoding="utf-8"))

Patched = Callable[[Manifest], Manifest]
Problems = Callable[[Manifest], list[str]]


@pytest.mark.parametrize("case", SPECS["good"])
def test_a_good_spec_is_accepted_by_both(case: str, manifest: Patched, server_problems: Problems) -> None:
    service = manifest(SPECS["good"][case])
    assert server_problems(service) == []
    load_service(service)


@pytest.mark.parametrize("case", SPECS["bad"])
def test_a_bad_spec_is_refused_by_both(case: str, manifest: Patched, server_problems: Problems) -> None:
    service = manifest(SPECS["bad"][case]["change"])
    with pytest.raises(InvalidResourceError) as refusal:
        load_service(service)
    assert [problem.field for problem in refusal.value.problems] == [SPECS["bad"][case]["field"]]
    assert server_problems(service) != []


def test_every_rule_of_a_service_is_broken_by_some_bad_spec(manifest: Patched) -> None:
    said = set()
    for case in SPECS["bad"].values():
        with pytest.raises(InvalidResourceError) as refusal:
            load_service(manifest(case["change"]))
        said |= {problem.message for problem in refusal.value.problems}
    assert {rule.message for rules in RULES.values() for rule in rules} <= said
