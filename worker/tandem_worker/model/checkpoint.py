"""Reads safetensors as Hugging Face writes them: one file, or shards with an index."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tandem_worker.errors import CheckpointError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_AGAIN = "download the checkpoint again"


class Checkpoint:
    """A `TensorSource` over a folder. Files are opened, and so checked against truncation, at once."""

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        self._device = device
        self._dtype = dtype
        self._folder = folder
        self._taken: set[str] = set()
        shards = _shards(folder)
        self._files = {name: _open(folder / name) for name in sorted(set(shards.values()))}
        self._file_of: dict[str, str] = {}
        for name, file in self._files.items():
            self._file_of |= dict.fromkeys(file.keys(), name)
        for tensor, name in shards.items():
            if tensor and self._file_of.get(tensor) != name:
                raise CheckpointError(f"{folder / name} lacks {tensor}, which {INDEX} promises: {_AGAIN}")

    def take(self, name: str, *shape: int) -> Tensor:
        """The tensor, converted. Raises `CheckpointError` when it is missing, misshapen or unreadable."""
        if name not in self._file_of:
            raise CheckpointError(f"{self._folder} lacks the tensor {name}: it does not fit its config.json")
        self._taken.add(name)
        path = self._folder / self._file_of[name]
        try:
            tensor: Tensor = self._files[path.name].get_tensor(name)
        except SafetensorError as error:
            raise CheckpointError(f"{path}: {name} cannot be read ({error}): {_AGAIN}") from None
        if tuple(tensor.shape) != shape:
            found = list(tensor.shape)
            raise CheckpointError(f"{path}: {name} is {found}, but config.json makes it {list(shape)}")
        if not tensor.is_floating_point():
            raise CheckpointError(f"{path}: {name} is {tensor.dtype}: quantized weights are not supported")
        return tensor.to(device=self._device, dtype=self._dtype)

    def check_all_taken(self, ignored: tuple[str, ...]) -> None:
        """Raises `CheckpointError` for a tensor that has no place in the model: results would be wrong."""
        left = sorted(
            name for name in self._file_of if name not in self._taken and not name.endswith(ignored)
        )
        if left:
            more = f" and {len(left) - 1} more" if len(left) > 1 else ""
            raise CheckpointError(
                f"{self._folder} has the unknown tensor {left[0]}{more}: config.json does not fit"
            )


def _shards(folder: Path) -> Mapping[str, str]:
    """File of each tensor by the index; for a single file an entry without a tensor name."""
    if (folder / SINGLE).exists():
        return {"": SINGLE}
    if not (folder / INDEX).exists():
        raise CheckpointError(f"{folder} has neither {SINGLE} nor {INDEX}: only safetensors can be loaded")
    try:
        shards: dict[str, str] = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
        if not all(isinstance(name, str) and Path(name).name == name for name in shards.values()):
            raise ValueError("weight_map holds something else than file names")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder / INDEX} cannot be read ({error!r}): {_AGAIN}") from None
    return shards


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt", device="cpu")
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing: {_AGAIN}") from None
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is truncated or corrupt ({error}): {_AGAIN}") from None
