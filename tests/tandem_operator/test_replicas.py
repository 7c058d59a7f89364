"""Who decides a pool's size."""

from hypothesis import given
from hypothesis import strategies as st

from tandem_operator.api import Pool
from tandem_operator.desired.replicas import LivePool, clamp, resolve

COUNTS = st.integers(0, 50)


def pool(replicas: int, minimum: int | None = None, maximum: int | None = None) -> Pool:
    return Pool(name="decode", role="decode", replicas=replicas, min_replicas=minimum, max_replicas=maximum)


def test_the_service_decides_at_creation() -> None:
    assert resolve(pool(3), None) == 3


def test_whoever_scaled_last_decides_afterwards() -> None:
    assert resolve(pool(3), LivePool(replicas=7, spec_replicas=3)) == 7


def test_the_service_decides_again_when_its_number_changes() -> None:
    assert resolve(pool(5), LivePool(replicas=7, spec_replicas=3)) == 5


def test_a_pool_that_nobody_marked_takes_the_services_number() -> None:
    assert resolve(pool(3), LivePool(replicas=7)) == 3


def test_bounds_hold_for_those_who_scale() -> None:
    live = LivePool(replicas=9, spec_replicas=2)
    assert resolve(pool(2, 1, 4), live) == 4
    assert resolve(pool(2, 1, 4), LivePool(0, 2)) == 1


@given(COUNTS, COUNTS, COUNTS, COUNTS, st.integers(0, 50))
def test_the_size_is_always_within_the_bounds_and_stays(
    wanted: int, live: int, low: int, span: int, before: int
) -> None:
    spec = pool(clamp(wanted, low, low + span), low, low + span)
    size = resolve(spec, LivePool(live, before))
    assert low <= size <= low + span
    assert resolve(spec, LivePool(size, spec.replicas)) == size
