"""The log of cache changes: every listener, early, late or slow, ends up with what is cached."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tandem_worker.kv import AllBlocksCleared, BlocksRemoved, BlockStored, KvEvent
from tandem_worker.kv_event_log import SNAPSHOT_EVENTS, KvEventBatch, KvEventLog


def _stored(number: int) -> BlockStored:
    return BlockStored(bytes([number]), b"", (number,))


def _apply(known: set[bytes], batches: list[KvEventBatch]) -> None:
    for batch in batches:
        for event in batch.events:
            match event:
                case BlockStored():
                    known.add(event.block_hash)
                case BlocksRemoved():
                    known.difference_update(event.block_hashes)
                case AllBlocksCleared():
                    known.clear()


def test_a_newcomer_gets_a_snapshot_then_what_follows() -> None:
    log = KvEventLog(capacity=10, first_sequence=100)
    log.append([_stored(1), _stored(2)])
    log.append([BlocksRemoved((b"\1",))])
    (snapshot,) = log.since(0)
    assert snapshot == KvEventBatch(101, (AllBlocksCleared(), _stored(2)))
    assert log.since(102) == []
    log.append([_stored(3)])
    assert log.since(102) == [KvEventBatch(102, (_stored(3),))]
    assert [batch.sequence for batch in log.since(100)] == [100, 101, 102]


def test_a_number_of_another_engine_gets_a_snapshot() -> None:
    log = KvEventLog(capacity=10, first_sequence=100)
    log.append([_stored(1)])
    assert log.since(500)[0].events[0] == AllBlocksCleared()
    assert log.since(7)[0].events[0] == AllBlocksCleared()


def test_a_large_snapshot_comes_in_parts() -> None:
    log = KvEventLog(capacity=1, first_sequence=1)
    log.append([BlockStored(number.to_bytes(4), b"", ()) for number in range(2 * SNAPSHOT_EVENTS)])
    parts = log.since(0)
    assert [len(part.events) for part in parts] == [SNAPSHOT_EVENTS, SNAPSHOT_EVENTS, 1]
    assert {part.sequence for part in parts} == {1}


NUMBERS = st.integers(0, 9)
EVENTS = st.one_of(
    NUMBERS.map(_stored),
    st.lists(NUMBERS, max_size=3).map(lambda ns: BlocksRemoved(tuple(bytes([n]) for n in ns))),
    st.just(AllBlocksCleared()),
)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.lists(EVENTS, max_size=4), st.lists(st.integers(0, 2), max_size=3)), max_size=20)
)
def test_listeners_of_any_speed_agree(history: list[tuple[list[KvEvent], list[int]]]) -> None:
    """After each batch some of three listeners catch up; each must then know exactly what is cached."""
    log = KvEventLog(capacity=3, first_sequence=50)
    truth: set[bytes] = set()
    known: list[set[bytes]] = [set(), set(), set()]
    cursors = [0, 0, 0]
    for events, readers in history:
        log.append(events)
        _apply(truth, [KvEventBatch(0, tuple(events))])
        for reader in readers:
            batches = log.since(cursors[reader])
            _apply(known[reader], batches)
            cursors[reader] = batches[-1].sequence + 1 if batches else cursors[reader]
            assert known[reader] == truth
