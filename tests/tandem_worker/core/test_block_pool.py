"""The block pool: references, prefix matches, eviction order, events."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem_worker.block_pool import BlockPool
from tandem_worker.kv import AllBlocksCleared, BlocksRemoved, BlockStored, KvEvent


def _block(name: int) -> BlockStored:
    return BlockStored(bytes([name]), b"", (name,))


def _apply(known: set[bytes], events: list[KvEvent]) -> None:
    """What a listener to the events does."""
    for event in events:
        match event:
            case BlockStored():
                known.add(event.block_hash)
            case BlocksRemoved():
                known -= set(event.block_hashes)
            case AllBlocksCleared():
                known.clear()


def test_a_released_block_is_found_again_under_its_hash() -> None:
    pool = BlockPool(2)
    (block_id,) = pool.allocate(1)
    pool.register(block_id, _block(7))
    pool.release([block_id])
    assert pool.num_used == 0
    assert pool.match([bytes([7])]) == [block_id]


def test_a_match_ends_at_the_first_unknown_hash() -> None:
    pool = BlockPool(3)
    first, second, third = pool.allocate(3)
    pool.register(first, _block(1))
    pool.register(third, _block(3))
    assert pool.match([bytes([1]), bytes([2]), bytes([3])]) == [first]
    assert second not in pool.match([bytes([3])])


def test_blocks_without_a_hash_go_first_then_the_least_recently_released() -> None:
    pool = BlockPool(4)
    blocks = pool.allocate(4)
    for name, block_id in enumerate(blocks[:3]):
        pool.register(block_id, _block(name))
    pool.release([blocks[1]])
    pool.release([blocks[0], blocks[2]])
    pool.release([blocks[3]])
    assert pool.allocate(4) == [blocks[3], blocks[1], blocks[2], blocks[0]]


def test_a_shared_block_is_free_only_after_its_last_release() -> None:
    pool = BlockPool(1)
    block_ids = pool.allocate(1)
    pool.acquire(block_ids)
    pool.release(block_ids)
    assert pool.num_free == 0
    pool.release(block_ids)
    assert pool.num_free == 1
    with pytest.raises(ValueError, match="free already"):
        pool.release(block_ids)


def test_a_second_block_with_a_known_hash_stays_out_of_the_cache() -> None:
    pool = BlockPool(2)
    first, second = pool.allocate(2)
    pool.register(first, _block(1))
    pool.register(second, _block(1))
    assert pool.match([bytes([1])]) == [first]
    assert len(pool.drain_events()) == 1


def test_more_than_the_free_blocks_cannot_be_had() -> None:
    pool = BlockPool(2)
    with pytest.raises(IndexError):
        pool.allocate(3)
    assert pool.num_free == 2


def test_undrained_events_stay_bounded_and_still_tell_the_truth() -> None:
    pool = BlockPool(4)
    known: set[bytes] = set()
    for name in range(100):
        block_ids = pool.allocate(1)
        pool.register(block_ids[0], _block(name))
        pool.release(block_ids)
    events = pool.drain_events()
    assert len(events) <= 8
    _apply(known, events)
    assert known == {block.block_hash for block in pool.cached()}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_random_use_keeps_the_pool_whole_and_its_events_true(data: st.DataObject) -> None:
    pool = BlockPool(data.draw(st.integers(1, 8)))
    owned: list[list[int]] = []
    known: set[bytes] = set()
    for _ in range(data.draw(st.integers(1, 40))):
        match data.draw(st.sampled_from(["allocate", "release", "register", "match", "drain"])):
            case "allocate" if pool.num_free:
                owned.append(pool.allocate(data.draw(st.integers(1, pool.num_free))))
            case "release" if owned:
                pool.release(owned.pop(data.draw(st.integers(0, len(owned) - 1))))
            case "register" if owned:
                pool.register(data.draw(st.sampled_from(owned))[0], _block(data.draw(st.integers(0, 9))))
            case "match":
                matched = pool.match([bytes([data.draw(st.integers(0, 9))])])
                assert pool.num_free_after(matched, 0) <= pool.num_free
                pool.acquire(matched)
                owned += [matched] if matched else []
            case "drain":
                _apply(known, pool.drain_events())
        pool.check_integrity(block_id for block_ids in owned for block_id in block_ids)
    for block_ids in owned:
        pool.release(block_ids)
    pool.check_integrity([])
    assert pool.num_free == pool.num_blocks
    _apply(known, pool.drain_events())
    assert known == {block.block_hash for block in pool.cached()}
