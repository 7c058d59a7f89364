"""The blocks of sequences: prefix reuse, growth, registration and release over a block pool. No torch."""

from tandem_wire.block_hash import block_hash, block_hashes, root_hash
from tandem_worker.block_pool import BlockPool
from tandem_worker.kv import BlockStored
from tandem_worker.sequence import Sequence


class KvCache:
    """Gives sequences their block tables. Only computed, full blocks enter the prefix cache."""

    def __init__(self, pool: BlockPool, block_size: int, salt: str = "") -> None:
        self.pool = pool
        self.block_size = block_size
        self._salt = salt

    def num_blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def num_free_after(self, seq: Sequence) -> int:
        """Free blocks left if `allocate(seq)` ran now; negative when it cannot."""
        matched = self._match(seq)
        return self.pool.num_free_after(matched, self.num_blocks_for(seq.num_tokens) - len(matched))

    def allocate(self, seq: Sequence, reserved: tuple[int, ...] = ()) -> int:
        """Gives a sequence without blocks those of its cached prefix and new ones for the rest of its tokens.

        Blocks of `reserved` are used first; those left over go back to the pool. Returns the number of reused
        blocks. At least one token is always left to compute, because its logits are needed.
        """
        matched = self._match(seq)
        self.pool.acquire(matched)
        num_new = self.num_blocks_for(seq.num_tokens) - len(matched)
        self.pool.release(reserved[num_new:])
        seq.block_ids = [*matched, *reserved[:num_new], *self.pool.allocate(max(0, num_new - len(reserved)))]
        seq.num_computed_tokens = len(matched) * self.block_size
        seq.num_registered_blocks = len(matched)
        return len(matched)

    def grow(self, seq: Sequence) -> bool:
        """Makes sure that the newest token has a slot; False when that needs a block and none is free."""
        if self.num_blocks_for(seq.num_tokens) > len(seq.block_ids):
            if self.pool.num_free == 0:
                return False
            seq.block_ids += self.pool.allocate(1)
        return True

    def register_computed(self, seq: Sequence) -> None:
        """Enters the sequence's newly full, computed blocks into the prefix cache."""
        size = self.block_size
        for index in range(seq.num_registered_blocks, seq.num_computed_tokens // size):
            tokens = tuple(seq.token_ids[index * size : (index + 1) * size])
            parent = seq.block_hashes[index - 1] if index else b""
            if index == len(seq.block_hashes):
                seq.block_hashes.append(block_hash(parent or root_hash(self._salt_of(seq)), tokens))
            self.pool.register(seq.block_ids[index], BlockStored(seq.block_hashes[index], parent, tokens))
            seq.num_registered_blocks = index + 1

    def free(self, seq: Sequence) -> None:
        """Takes all blocks from the sequence: nothing of it counts as computed any more."""
        self.pool.release(seq.block_ids)
        seq.block_ids = []
        seq.num_computed_tokens = 0
        seq.num_registered_blocks = 0

    def _salt_of(self, seq: Sequence) -> str:
        own = seq.request.cache_salt
        return f"{self._salt}\0{own}" if own else self._salt

    def _match(self, seq: Sequence) -> list[int]:
        if not seq.block_hashes:
            seq.block_hashes = block_hashes(seq.token_ids, self.block_size, self._salt_of(seq))
        return self.pool.match(seq.block_hashes[: (seq.num_tokens - 1) // self.block_size])
