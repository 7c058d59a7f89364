"""A device without torch: its next token is a hash of what the cache holds, so any lost KV changes it."""

import struct
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from pathlib import Path

import pytest

from tandem_worker.config import EngineConfig
from tandem_worker.engine import Engine
from tandem_worker.kv import KvLayout
from tandem_worker.model_runner import ModelInfo
from tandem_worker.request import Request, SampledToken, SamplingParams, StepOutput
from tandem_worker.sequence import Chunk

VOCAB_SIZE = 50
BLOCK_SIZE = 4


def next_token(token_ids: Sequence[int]) -> int:
    return sha256(struct.pack(f"{len(token_ids)}I", *token_ids)).digest()[0] % VOCAB_SIZE


class HashRunner:
    """A `ModelRunner`. One number, a token id, is the KV of a slot."""

    def __init__(self, num_blocks: int) -> None:
        layout = KvLayout(1, 1, 1, BLOCK_SIZE, "float32")
        self.info = ModelInfo(layout, num_blocks, VOCAB_SIZE, num_blocks * BLOCK_SIZE, frozenset({0}))
        self.slots = [-1] * (num_blocks * BLOCK_SIZE)
        self.batches: list[tuple[Chunk, ...]] = []

    def run(self, chunks: Sequence[Chunk]) -> list[SampledToken | None]:
        self.batches.append(tuple(chunks))
        return [self._compute(chunk) for chunk in chunks]

    def read_blocks(self, block_ids: Sequence[int]) -> bytes:
        numbers = [self.slots[slot] for block_id in block_ids for slot in _slots(block_id)]
        return struct.pack(f"{len(numbers)}q", *numbers)

    def write_blocks(self, block_ids: Sequence[int], data: bytes | bytearray | memoryview) -> None:
        numbers = struct.unpack(f"{len(block_ids) * BLOCK_SIZE}q", data)
        for i, slot in enumerate(slot for block_id in block_ids for slot in _slots(block_id)):
            self.slots[slot] = numbers[i]

    def _compute(self, chunk: Chunk) -> SampledToken | None:
        seq = chunk.sequence
        table = [slot for block_id in seq.block_ids for slot in _slots(block_id)]
        end = seq.num_computed_tokens + chunk.num_tokens
        for position in range(seq.num_computed_tokens, end):
            self.slots[table[position]] = seq.token_ids[position]
        if not chunk.samples:
            return None
        return SampledToken(next_token([self.slots[slot] & 0xFFFFFFFF for slot in table[:end]]))


class Bench:
    """An engine over a `HashRunner`, and the outputs of its requests so far."""

    def __init__(self, num_blocks: int, max_num_seqs: int = 4, max_batched_tokens: int = 8) -> None:
        config = EngineConfig(Path("none"), max_num_seqs=max_num_seqs, max_batched_tokens=max_batched_tokens)
        self.config = config
        self.now = 0.0
        self.runner = HashRunner(num_blocks)
        self.engine = Engine(config, self.runner, lambda: self.now)
        self.outputs: dict[str, list[StepOutput]] = {}

    def take(self, outputs: Iterable[StepOutput]) -> None:
        for output in outputs:
            self.outputs.setdefault(output.request_id, []).append(output)

    def step(self) -> None:
        report = self.engine.step()
        self.take(report.outputs)
        assert report.num_prefill_tokens + report.num_decode_tokens <= self.config.max_batched_tokens
        assert self.engine.load().num_running <= self.config.max_num_seqs
        self.engine.check_integrity()

    def run(self, max_steps: int = 10_000) -> None:
        for _ in range(max_steps):
            if not self.engine.has_work():
                return
            self.step()
        raise AssertionError(f"still busy after {max_steps} steps: {self.engine.load()}")

    def tokens(self, request_id: str) -> list[int]:
        return [output.token_id for output in self.outputs.get(request_id, [])]


def _slots(block_id: int) -> range:
    return range(block_id * BLOCK_SIZE, (block_id + 1) * BLOCK_SIZE)


@pytest.fixture(scope="session")
def make_bench() -> Callable[..., Bench]:
    return Bench


@pytest.fixture(scope="session")
def make_request() -> Callable[..., Request]:
    """request_id, prompt, max_tokens, hold_kv."""

    def make(request_id: str, prompt: Sequence[int], max_tokens: int = 5, hold_kv: bool = False) -> Request:
        return Request(request_id, tuple(prompt), SamplingParams(max_tokens, temperature=0.0), hold_kv)

    return make


@pytest.fixture(scope="session")
def expected_tokens() -> Callable[[Request, int], list[int]]:
    """The tokens of a request that runs alone, on a model of `max_model_len`."""

    def expect(request: Request, max_model_len: int) -> list[int]:
        tokens = list(request.prompt_token_ids)
        most = min(request.sampling.max_tokens, max_model_len - len(tokens))
        while len(tokens) < len(request.prompt_token_ids) + most:
            tokens.append(next_token(tokens))
            if tokens[-1] == 0:
                break
        return tokens[len(request.prompt_token_ids) :]

    return expect
