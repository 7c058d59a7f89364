"""The lease table: what a holder, a releaser and the clock can do to it, in any order."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from tandem_worker.lease import EndReason, LeaseTable


def test_a_lease_ends_with_its_time() -> None:
    table = LeaseTable()
    table.grant("a", ttl=30, now=100)
    table.grant("b", ttl=10, now=100)
    assert table.next_expiry() == 110
    assert table.expire(109.9) == []
    assert table.expire(110) == ["b"]
    assert table.expire(129) == []
    assert table.expire(1000) == ["a"]
    assert table.ended == {EndReason.EXPIRED: 2}
    assert table.next_expiry() is None


def test_release_is_idempotent() -> None:
    table = LeaseTable()
    table.grant("a", ttl=30, now=0)
    assert table.release("a", EndReason.PULLED)
    assert not table.release("a", EndReason.PULLED)
    assert not table.release("never", EndReason.CANCELLED)
    assert table.ended == {EndReason.PULLED: 1}


def test_renewal_extends_and_never_shortens() -> None:
    table = LeaseTable()
    table.grant("a", ttl=30, now=0)
    renewed = table.renew("a", ttl=30, now=20)
    assert renewed is not None
    assert renewed.expires_at == 50
    again = table.renew("a", ttl=1, now=20)
    assert again is not None
    assert again.expires_at == 50
    assert table.renew("gone", ttl=1, now=20) is None


@pytest.mark.parametrize("ttl", [0, -1, float("nan")])
def test_a_time_to_live_must_be_positive(ttl: float) -> None:
    with pytest.raises(ValueError, match="time to live"):
        LeaseTable().grant("a", ttl=ttl, now=0)


def test_a_handle_is_leased_once() -> None:
    table = LeaseTable()
    table.grant("a", ttl=1, now=0)
    with pytest.raises(ValueError, match="leased already"):
        table.grant("a", ttl=1, now=0)


class Leases(RuleBasedStateMachine):
    """Model: the open handles with their ends; every grant ends at most once, and at the right time."""

    handles = Bundle("handles")

    def __init__(self) -> None:
        super().__init__()
        self.table = LeaseTable()
        self.now = 0.0
        self.open: dict[str, float] = {}
        self.num_ended = 0

    @rule(target=handles, ttl=st.floats(0.1, 50))
    def grant(self, ttl: float) -> str:
        handle = f"h{self.table.num_granted}"
        self.open[handle] = self.table.grant(handle, ttl, self.now).expires_at
        assert self.open[handle] == self.now + ttl
        return handle

    @rule(handle=handles, ttl=st.floats(0.1, 50))
    def renew(self, handle: str, ttl: float) -> None:
        lease = self.table.renew(handle, ttl, self.now)
        assert (lease is not None) == (handle in self.open)
        if lease is not None:
            assert lease.expires_at >= max(self.open[handle], self.now + ttl)
            self.open[handle] = lease.expires_at

    @rule(handle=handles, reason=st.sampled_from(EndReason))
    def release(self, handle: str, reason: EndReason) -> None:
        assert self.table.release(handle, reason) == (handle in self.open)
        self.num_ended += self.open.pop(handle, None) is not None

    @rule(handle=consumes(handles))
    def forget(self, handle: str) -> None:
        """The holder dies: only the clock can end its lease now."""

    @rule(seconds=st.floats(0, 60))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        due = {handle for handle, end in self.open.items() if end <= self.now}
        assert set(self.table.expire(self.now)) == due
        for handle in due:
            del self.open[handle]
        self.num_ended += len(due)

    @invariant()
    def nothing_leaks(self) -> None:
        self.table.check_integrity()
        assert len(self.table) == len(self.open)
        assert self.table.ended.total() == self.num_ended
        assert self.table.next_expiry() == min(self.open.values(), default=None)

    def teardown(self) -> None:
        self.table.expire(self.now + 1000)
        assert len(self.table) == 0
        self.table.check_integrity()


TestLeases = Leases.TestCase
TestLeases.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
