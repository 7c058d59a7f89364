"""Which workers a failed leg rules out for the rest of its request. Pure."""

from dataclasses import replace

from tandem_router.moves import Failure, Kind, Leg
from tandem_router.types import Choice, Constraint

ALONE = frozenset({Kind.CONNECT, Kind.BUSY})
"""Failures that the leg's own worker answers for; of others, either worker of the pair may be the cause."""


def ruled_out(constraint: Constraint, choice: Choice, failure: Failure, *, streaming: bool) -> Constraint:
    """The constraint for the next choice. `streaming`: the leg had begun, so its KV had arrived."""
    if choice.prefill is None or streaming:
        return _avoiding(constraint, choice.decode.name)
    if failure.leg is Leg.PREFILL:
        return _avoiding(constraint, choice.prefill.name)
    if failure.kind in ALONE:
        return _avoiding(constraint, choice.decode.name)
    return replace(constraint, shun=constraint.shun | {choice.prefill.name, choice.decode.name})


def is_ruled_out(constraint: Constraint, choice: Choice) -> bool:
    names = {choice.decode.name} if choice.prefill is None else {choice.decode.name, choice.prefill.name}
    return not names.isdisjoint(constraint.avoid)


def _avoiding(constraint: Constraint, name: str) -> Constraint:
    return replace(constraint, avoid=constraint.avoid | {name})
