"""Block hashes: equal for equal prefixes, and for nothing else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem_wire.block_hash import HASH_BYTES, block_hash, block_hashes, root_hash


def test_the_hash_is_the_documented_one_so_that_other_programs_can_compute_it() -> None:
    assert block_hashes([1, 2, 3, 4, 5], 4)[0].hex() == (
        "67526b774362afb4c425d7ed8f91aa91208d4f12d42330fdf5c25ddf2d20818b"
    )


def test_only_full_blocks_have_a_hash_and_each_names_all_before_it() -> None:
    hashes = block_hashes(range(11), 4, "m")
    assert [len(value) for value in hashes] == [HASH_BYTES] * 2
    assert hashes[0] == block_hash(root_hash("m"), range(4))
    assert hashes[1] == block_hash(hashes[0], range(4, 8))
    assert block_hashes([9, 1, 2, 3, *range(4, 8)], 4, "m")[1] != hashes[1]


def test_salts_keep_models_apart() -> None:
    assert block_hashes([1, 2], 2, "a") != block_hashes([1, 2], 2, "b")


def test_the_vocabulary_may_use_all_of_uint32() -> None:
    assert len(block_hashes([0, 2**32 - 1], 2)) == 1


@pytest.mark.parametrize("block_size", [1, 3])
@settings(max_examples=60, deadline=None)
@given(a=st.lists(st.integers(0, 2), max_size=12), b=st.lists(st.integers(0, 2), max_size=12))
def test_hashes_agree_exactly_as_far_as_the_blocks_do(block_size: int, a: list[int], b: list[int]) -> None:
    pairs = zip(block_hashes(a, block_size), block_hashes(b, block_size), strict=False)
    for index, (left, right) in enumerate(pairs, 1):
        assert (left == right) == (a[: index * block_size] == b[: index * block_size])
