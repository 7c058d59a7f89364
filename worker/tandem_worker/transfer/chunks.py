"""How blocks are cut into messages, and how the other side checks them. Pure."""

from collections.abc import Iterator
from zlib import crc32

from tandem_wire import kv_pb2
from tandem_worker.kv import KvLayout
from tandem_worker.transfer.base import KvBlocks, TransferError, TransferFailure

CHUNK_BYTES = 4 << 20
CHUNKS_PER_CALL = 8  # that go to or from the engine at once: each call waits for a step to end
MESSAGE_OVERHEAD_BYTES = 1 << 16


def blocks_per_chunk(layout: KvLayout) -> int:
    return max(1, CHUNK_BYTES // layout.block_bytes)


def max_message_bytes(layout: KvLayout) -> int:
    """The largest message that either side may send: a chunk is at least one block."""
    return max(CHUNK_BYTES, layout.block_bytes) + MESSAGE_OVERHEAD_BYTES


def chunk_ranges(layout: KvLayout, first_block: int, end_block: int) -> Iterator[list[range]]:
    """The block indices of each chunk, in order, in groups of `CHUNKS_PER_CALL`."""
    size = blocks_per_chunk(layout)
    for start in range(first_block, end_block, size * CHUNKS_PER_CALL):
        end = min(start + size * CHUNKS_PER_CALL, end_block)
        yield [range(at, min(at + size, end)) for at in range(start, end, size)]


def pack_chunk(blocks: range, data: bytes) -> kv_pb2.KvChunk:
    return kv_pb2.KvChunk(first_block=blocks.start, num_blocks=len(blocks), data=data, crc32=crc32(data))


def unpack_chunk(chunk: kv_pb2.KvChunk, layout: KvLayout, first_block: int, max_blocks: int) -> KvBlocks:
    """Raises `TransferError`: the chunk begins elsewhere, is too long, or its bytes are damaged."""
    if chunk.first_block != first_block or not 0 < chunk.num_blocks <= max_blocks:
        raise TransferError(
            TransferFailure.CORRUPT,
            f"blocks {chunk.first_block} to {chunk.first_block + chunk.num_blocks} came instead of "
            f"{first_block} to {first_block + max_blocks}",
        )
    if len(chunk.data) != chunk.num_blocks * layout.block_bytes:
        raise TransferError(
            TransferFailure.CORRUPT,
            f"{chunk.num_blocks} blocks came with {len(chunk.data)} bytes instead of "
            f"{chunk.num_blocks * layout.block_bytes}",
        )
    if crc32(chunk.data) != chunk.crc32:
        raise TransferError(TransferFailure.CORRUPT, f"the checksum of block {first_block} and on is wrong")
    return KvBlocks(chunk.first_block, chunk.num_blocks, chunk.data)


def pack_layout(layout: KvLayout) -> kv_pb2.KvLayout:
    return kv_pb2.KvLayout(
        num_layers=layout.num_layers,
        num_kv_heads=layout.num_kv_heads,
        head_dim=layout.head_dim,
        block_size=layout.block_size,
        dtype=layout.dtype,
    )


def unpack_layout(layout: kv_pb2.KvLayout) -> KvLayout:
    return KvLayout(layout.num_layers, layout.num_kv_heads, layout.head_dim, layout.block_size, layout.dtype)
