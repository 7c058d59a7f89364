"""What this router sent where: an approximate index of the workers' prefix caches. Pure."""

from collections import OrderedDict

from tandem_router.prefix import tokens_in
from tandem_router.types import RequestInfo

MAX_BLOCKS = 1 << 16
_WORKERS_PER_BLOCK = 8


class SentPrefixes:
    """Hash of a prompt's start -> the last workers that computed it. Forgets what was used least recently."""

    def __init__(self, capacity: int = MAX_BLOCKS) -> None:
        self._capacity = capacity
        self._blocks: OrderedDict[int, list[str]] = OrderedDict()

    def sent(self, prefix: tuple[int, ...], worker: str) -> None:
        """The worker is computing the prompt with these hashes."""
        blocks = self._blocks
        for value in reversed(prefix):
            workers = blocks.get(value)
            if workers is None:
                blocks[value] = [worker]
                continue
            blocks.move_to_end(value)
            if worker in workers:
                workers.remove(worker)
            elif len(workers) == _WORKERS_PER_BLOCK:
                del workers[0]
            workers.append(worker)
        while len(blocks) > self._capacity:
            blocks.popitem(last=False)

    def match(self, request: RequestInfo) -> dict[str, int]:
        """Worker -> about how many of the prompt's tokens it has."""
        found: dict[str, int] = {}
        depth = self._deepest(request.prefix)
        while depth > 0 and len(found) < _WORKERS_PER_BLOCK:
            workers = self._blocks.get(request.prefix[depth - 1], ())
            for worker in workers:
                if worker not in found:
                    found[worker] = tokens_in(request, depth)
            depth -= 1 + depth // 8
        return found

    def check_integrity(self) -> None:
        """Raises AssertionError if a bound is broken."""
        if len(self._blocks) > self._capacity:
            raise AssertionError(f"{len(self._blocks)} blocks, {self._capacity} allowed")
        for names in self._blocks.values():
            if not 0 < len(names) <= _WORKERS_PER_BLOCK or len(set(names)) < len(names):
                raise AssertionError(f"workers of a block: {names}")

    def _deepest(self, prefix: tuple[int, ...]) -> int:
        """How many leading blocks are known: whoever computed one has computed those before it."""
        low, high = 0, len(prefix)
        while low < high:
            middle = (low + high + 1) // 2
            if prefix[middle - 1] in self._blocks:
                low = middle
            else:
                high = middle - 1
        return low
