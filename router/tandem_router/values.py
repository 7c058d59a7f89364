"""Values that are frozen for the type checker and cheap at run time.

Python's frozen dataclasses set each field through `object.__setattr__`, and `dataclasses.replace` looks every
field up: together a sixth of what a request cost.
"""

from dataclasses import field, fields, make_dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

C = TypeVar("C", bound=type)

if TYPE_CHECKING:
    from dataclasses import replace as replace
else:

    def replace(value, /, **changes):
        """`dataclasses.replace` for values whose class is `quick`."""
        new = value._copy()
        for name, changed in changes.items():
            setattr(new, name, changed)
        return new


def quick(cls: C) -> C:
    """Put on top of `@dataclass(frozen=True, slots=True)`: from then on plain assignments make and copy it.

    Raises TypeError for a class that checks itself when it is made (`__post_init__`).
    """
    if hasattr(cls, "__post_init__"):
        raise TypeError(f"{cls.__name__} has a __post_init__, which would not run")
    known: Any = cls
    plain = make_dataclass(
        cls.__name__,
        [(f.name, Any, field(default=f.default, default_factory=f.default_factory)) for f in fields(known)],
    )
    known.__init__ = vars(plain)["__init__"]
    known._copy = _copier(known, [f.name for f in fields(known)])
    del known.__setattr__, known.__delattr__
    return cls


def _copier(cls: Any, names: list[str]) -> Any:
    if not names:
        return lambda _self: cls()
    read = attrgetter(*names)
    return (lambda self: cls(*read(self))) if len(names) > 1 else (lambda self: cls(read(self)))
