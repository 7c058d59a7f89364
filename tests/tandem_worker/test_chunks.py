"""Blocks cut into messages and put together again."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem_worker.kv import KvLayout
from tandem_worker.transfer import chunks
from tandem_worker.transfer.base import RemoteKv

LAYOUT = KvLayout(2, 2, 8, 8, "float32")
LAYOUTS = st.builds(
    KvLayout,
    st.integers(1, 80),
    st.integers(1, 64),
    st.sampled_from([32, 64, 128, 256]),
    st.sampled_from([16, 32, 128]),
    st.sampled_from(["float32", "bfloat16", "float16"]),
)


@settings(max_examples=100, deadline=None)
@given(LAYOUTS, st.integers(0, 50), st.integers(0, 300))
def test_chunks_cover_the_blocks_once_and_fit_into_messages(
    layout: KvLayout, first_block: int, num_blocks: int
) -> None:
    groups = list(chunks.chunk_ranges(layout, first_block, first_block + num_blocks))
    assert all(0 < len(group) <= chunks.CHUNKS_PER_CALL for group in groups)
    ranges = [part for group in groups for part in group]
    assert [block for part in ranges for block in part] == list(range(first_block, first_block + num_blocks))
    for part in ranges:
        assert len(part) * layout.block_bytes <= max(chunks.CHUNK_BYTES, layout.block_bytes)
        assert len(part) * layout.block_bytes + 1024 < chunks.max_message_bytes(layout)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4))
def test_what_is_packed_is_what_is_unpacked(num_blocks: int) -> None:
    data = bytes(range(256)) * (num_blocks * LAYOUT.block_bytes // 256)
    chunk = chunks.pack_chunk(range(3, 3 + num_blocks), data)
    blocks = chunks.unpack_chunk(chunk, LAYOUT, first_block=3, max_blocks=4)
    assert (blocks.first_block, blocks.num_blocks, blocks.data) == (3, num_blocks, data)


@given(LAYOUTS)
@settings(max_examples=20, deadline=None)
def test_layouts_survive_the_wire(layout: KvLayout) -> None:
    assert chunks.unpack_layout(chunks.pack_layout(layout)) == layout


@pytest.mark.parametrize(("host", "address"), [("10.0.0.1", "10.0.0.1:82"), ("fd00::1", "[fd00::1]:82")])
def test_addresses(host: str, address: str) -> None:
    assert RemoteKv(host, 82, "e", "h", 1, b"").address == address
