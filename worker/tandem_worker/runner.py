"""Runs chunks on a device: the model, the KV cache tensor and the sampler."""

from collections.abc import Sequence
from math import prod

import numpy
import torch
from torch import Tensor

from tandem_worker.errors import KvDataError
from tandem_worker.model.batch import make_batch
from tandem_worker.model.transformer import Transformer
from tandem_worker.model_runner import ModelInfo
from tandem_worker.request import SampledToken
from tandem_worker.sampler import sample
from tandem_worker.sequence import Chunk


class TorchRunner:
    """A `ModelRunner`. Its cache is one tensor, of the shape that `KvChunk` has on the wire."""

    def __init__(self, model: Transformer, info: ModelInfo) -> None:
        layout = info.layout
        self.info = info
        self._model = model
        self._device = model.cos.device
        shape = (
            layout.num_layers,
            2,
            info.num_blocks,
            layout.block_size,
            layout.num_kv_heads,
            layout.head_dim,
        )
        self._kv = _zeros(shape, model.cos.dtype, self._device)

    @torch.inference_mode()
    def run(self, chunks: Sequence[Chunk]) -> list[SampledToken | None]:
        """Writes the chunks' KV; returns a token for each chunk that samples, in the order of `chunks`."""
        batch = make_batch(chunks, self.info.layout.block_size, self._device)
        logits = self._model.forward(batch, self._kv)
        sampling = [chunk.sequence for chunk in batch.chunks if chunk.samples]
        tokens = dict(zip(map(id, sampling), sample(logits, sampling), strict=True)) if sampling else {}
        return [tokens.get(id(chunk.sequence)) for chunk in chunks]

    @torch.inference_mode()
    def read_blocks(self, block_ids: Sequence[int]) -> bytes:
        """The KV of blocks, C order, in the machine's byte order (little endian on all that run torch)."""
        blocks = self._kv[:, :, self._index(block_ids)].cpu()
        return blocks.view(torch.uint8).numpy().tobytes()

    @torch.inference_mode()
    def write_blocks(self, block_ids: Sequence[int], data: bytes | bytearray | memoryview) -> None:
        """Fills blocks from bytes. Raises `KvDataError` when the size is not theirs."""
        wanted = self.info.layout.block_bytes * len(block_ids)
        view = memoryview(data).cast("B")
        if len(view) != wanted:
            raise KvDataError(f"{len(block_ids)} KV blocks are {wanted} bytes, but {len(view)} came")
        if not wanted:
            return
        raw = torch.empty(wanted, dtype=torch.uint8)
        raw.numpy().data[:] = view
        blocks = raw.view(self._kv.dtype).view(*self._kv.shape[:2], len(block_ids), *self._kv.shape[3:])
        self._kv[:, :, self._index(block_ids)] = blocks.to(self._device)

    def _index(self, block_ids: Sequence[int]) -> Tensor:
        return torch.tensor(list(block_ids), dtype=torch.int64, device=self._device)


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros: a NaN in a masked slot would spoil the sum over it. On a CPU, memory comes with first use."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    untouched = numpy.zeros(prod(shape) * dtype.itemsize, dtype=numpy.uint8)
    return torch.from_numpy(untouched).view(dtype).view(shape)
