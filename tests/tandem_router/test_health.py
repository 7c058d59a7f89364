"""Circuit breakers and outlier ejection."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem_router.health.book import Change, HealthBook, HealthSettings
from tandem_router.health.breaker import Breaker, BreakerSettings, Reason
from tandem_router.health.window import Window
from tandem_router.types import Endpoint, Role

NAMES = ["a", "b", "c", "d"]


def worker(name: str, role: Role = Role.DECODE, port: int = 1) -> Endpoint:
    return Endpoint(name, "127.0.0.1", port, role, str(role), "native", "m", "r")


@dataclass
class Fleet:
    """A health book with its changes, and the clock that it is asked by."""

    names: list[str]
    now: float = 0.0
    changes: list[Change] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.book = HealthBook(HealthSettings(), self.changes.append)
        self.book.know([worker(name) for name in self.names])

    def fail(self, name: str, times: int = 1) -> None:
        for _ in range(times):
            self.book.started(name, self.now)
            self.book.failed(name, self.now)

    def succeed(self, name: str, times: int = 1) -> None:
        for _ in range(times):
            self.book.started(name, self.now)
            self.book.succeeded(name, self.now)

    @property
    def out(self) -> set[str]:
        return set(self.book.ejected(self.now))


def test_failures_in_a_row_eject_a_worker() -> None:
    fleet = Fleet(["a", "b"])
    fleet.fail("a", 4)
    fleet.succeed("a")
    fleet.fail("a", 4)
    assert fleet.out == set()
    fleet.fail("a")
    assert fleet.out == {"a"}
    assert [(c.endpoint.name, c.reason, c.seconds) for c in fleet.changes] == [("a", Reason.IN_A_ROW, 1.0)]


def test_one_probe_at_a_time_until_one_succeeds() -> None:
    fleet = Fleet(["a", "b"])
    fleet.fail("a", 5)
    fleet.now = 1.0
    assert fleet.out == set()
    fleet.book.started("a", fleet.now)
    assert fleet.out == {"a"}, "while the probe is on its way"
    fleet.book.failed("a", 1.1)
    fleet.now = 3.0
    assert fleet.out == {"a"}, "twice as long"
    fleet.now = 3.2
    assert fleet.out == set()
    fleet.succeed("a")
    assert fleet.out == set()
    assert [c.reason for c in fleet.changes] == [Reason.IN_A_ROW, Reason.IN_A_ROW, None]


def test_a_probe_of_which_nothing_is_heard_is_followed_by_another() -> None:
    fleet = Fleet(["a", "b"])
    fleet.fail("a", 5)
    fleet.now = 1.0
    fleet.book.started("a", fleet.now)
    fleet.now = 2.0
    assert fleet.out == set()


def test_an_answer_to_a_request_from_before_does_not_close_the_circuit() -> None:
    fleet = Fleet(["a", "b"])
    fleet.fail("a", 5)
    fleet.book.succeeded("a", fleet.now)
    assert fleet.out == {"a"}


def test_the_open_time_grows_to_its_bound_and_is_forgotten_when_all_is_well() -> None:
    breaker = Breaker(BreakerSettings(in_a_row=1, first_open=1.0, longest_open=30.0))
    now, times = 100.0, []
    for _ in range(8):
        breaker.started(now)
        breaker.failed(now)
        times.append(breaker.until - now)
        now = breaker.until
    assert times == [1, 2, 4, 8, 16, 30, 30, 30]
    breaker.started(now)
    assert breaker.succeeded(now)
    breaker.failed(now + 10.0)
    assert breaker.until - (now + 10.0) == 30.0, "it failed again soon"
    now = breaker.until
    breaker.started(now)
    breaker.succeeded(now)
    breaker.failed(now + 31.0)
    assert breaker.until - (now + 31.0) == 1.0


def test_a_worker_that_fails_often_is_ejected_though_never_many_times_in_a_row() -> None:
    fleet = Fleet(NAMES)
    for step in range(40):
        fleet.now = step / 10
        for name in NAMES[1:]:
            fleet.succeed(name)
        (fleet.fail if step % 3 else fleet.succeed)("a")
    assert (fleet.changes[0].endpoint.name, fleet.changes[0].reason) == ("a", Reason.SHARE)


def test_a_worker_that_fails_more_than_its_pool_is_ejected_but_not_one_among_equals() -> None:
    for others_fail, out in ((False, {("a", Reason.OUTLIER)}), (True, set())):
        fleet = Fleet(NAMES)
        for step in range(60):
            fleet.now = step / 10
            for name in NAMES:
                fails = step % 3 == 0 and (name == "a" or others_fail)
                (fleet.fail if fails else fleet.succeed)(name)
        assert {(c.endpoint.name, c.reason) for c in fleet.changes if c.reason} == out


@pytest.mark.parametrize(("pace", "out"), [(0.200, {"a"}), (0.060, set())])
def test_a_worker_much_slower_than_its_pool_is_ejected(pace: float, out: set[str]) -> None:
    fleet = Fleet(NAMES)
    for step in range(12):
        for name in NAMES:
            fleet.book.paced(name, pace if name == "a" else 0.025, step)
    fleet.now = 12.0
    fleet.succeed("b")
    assert fleet.out == out


def test_prefill_workers_may_all_be_ejected_but_never_all_that_decode() -> None:
    fleet = Fleet([])
    fleet.book.know([worker("p", Role.PREFILL), worker("d"), replace(worker("e"), ready=False)])
    fleet.fail("p", 5)
    fleet.fail("d", 5)
    assert fleet.out == {"p"}


def test_a_worker_that_left_or_came_back_elsewhere_is_forgotten() -> None:
    fleet = Fleet(["a", "b"])
    fleet.fail("a", 5)
    fleet.book.know([worker("a", port=2), worker("b")])
    assert fleet.out == set()
    assert fleet.changes[-1].reason is None
    fleet.book.failed("gone", fleet.now)
    fleet.book.paced("gone", 1.0, fleet.now)
    assert fleet.out == set()


def test_a_window_forgets() -> None:
    window = Window(10.0)
    window.add(0.0, failures=1, outcomes=1)
    assert window.failure_share(9.0, 1) == 1.0
    assert window.failure_share(19.0, 1) == 1.0
    assert window.failure_share(29.0, 1) is None
    window.add(30.0, failures=1, outcomes=1)
    assert window.failure_share(51.0, 1) is None


EVENTS = st.tuples(
    st.sampled_from(["started", "succeeded", "failed", "paced", "leave", "come"]),
    st.sampled_from(NAMES),
    st.floats(0.0, 20.0),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(EVENTS, max_size=120))
def test_somebody_is_always_left_and_everybody_is_tried_again(events: list[tuple[str, str, float]]) -> None:
    fleet = Fleet(NAMES)
    present = set(NAMES)
    for event, name, seconds in events:
        fleet.now += seconds / 10
        if event in ("leave", "come"):
            (present.discard if event == "leave" else present.add)(name)
            fleet.book.know([worker(n) for n in present])
        elif event == "paced":
            fleet.book.paced(name, seconds, fleet.now)
        else:
            getattr(fleet.book, event)(name, fleet.now)
        assert fleet.out <= present
        assert not present or fleet.out < present
    state = dict.fromkeys(NAMES, False)
    for change in fleet.changes:
        assert change.reason is not None or state[change.endpoint.name], "back without having been out"
        state[change.endpoint.name] = change.reason is not None
    fleet.now += HealthSettings().breaker.longest_open
    assert fleet.out == set(), "each may be tried again after the longest open time"


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 12))
def test_outliers_are_at_most_half_of_a_pool(size: int) -> None:
    names = [f"w{i}" for i in range(size)]
    fleet = Fleet(names)
    for step in range(60):
        fleet.now = step / 5
        for index, name in enumerate(names):
            (fleet.succeed if step % (2 + index % 3) == 0 else fleet.fail)(name)
            if step % 4 == 0:
                fleet.succeed(name)
        assert len(fleet.out) <= size / 2
