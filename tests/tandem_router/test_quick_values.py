"""Quick values are dataclasses like others, but for what keeps them from being changed at run time."""

from collections.abc import Hashable
from dataclasses import dataclass, field, fields

import pytest

from tandem_router.values import quick, replace


@quick
@dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: int = 2
    tags: tuple[str, ...] = field(default_factory=tuple)


@quick
@dataclass(frozen=True, slots=True)
class One:
    only: int


def test_made_compared_and_shown_as_ever() -> None:
    assert Point(1) == Point(1, 2, ()) != Point(2)
    assert hash(Point(1)) == hash(Point(1))
    assert isinstance(Point(1), Hashable)
    assert repr(Point(1, tags=("a",))) == "Point(x=1, y=2, tags=('a',))"
    assert [f.name for f in fields(Point)] == ["x", "y", "tags"]
    match Point(3):
        case Point(x, y):
            assert (x, y) == (3, 2)


def test_a_changed_copy_leaves_the_old_one() -> None:
    old = Point(1, tags=("a",))
    assert replace(old, y=5, x=0) == Point(0, 5, ("a",))
    assert old == Point(1, 2, ("a",))
    assert replace(One(1), only=2) == One(2)


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(TypeError):
        Point(1, z=3)  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        replace(Point(1), z=3)  # type: ignore[call-arg]


def test_a_class_that_checks_itself_cannot_be_quick() -> None:
    with pytest.raises(TypeError, match="__post_init__"):

        @quick
        @dataclass(frozen=True, slots=True)
        class Checked:
            x: int

            def __post_init__(self) -> None:
                raise ValueError
