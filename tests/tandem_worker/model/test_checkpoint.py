"""Checkpoints as they come: single files, shards, old and new config.json, and all that can be wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tandem_worker.config import EngineConfig
from tandem_worker.engine import Engine
from tandem_worker.errors import CheckpointError, ConfigError
from tandem_worker.model.spec import RopeSpec, load_spec
from tandem_worker.request import Request, SamplingParams

References = Callable[[str], Any]
MakeEngine = Callable[..., Engine]


@pytest.fixture
def folder(references: References, tmp_path: Path) -> Path:
    """A copy of a good checkpoint, to be spoiled."""
    return Path(shutil.copytree(references("llama").folder, tmp_path / "checkpoint"))


def _edit(path: Path, **changes: object) -> None:
    """Sets fields of a JSON file; None takes one away."""
    data = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in data.items() if value is not None}))


def _edit_tensors(folder: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors")


def _first_tokens(engine: Engine) -> list[int]:
    engine.add(Request("r", (1, 2, 3), SamplingParams(max_tokens=4, temperature=0.0)))
    tokens: list[int] = []
    while engine.has_work():
        tokens += [output.token_id for output in engine.step().outputs]
    return tokens


def test_shards_with_an_index_are_the_same_model(
    references: References, make_engine: MakeEngine, tmp_path: Path
) -> None:
    reference = references("qwen3")
    reference.model.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert _first_tokens(make_engine(tmp_path)) == _first_tokens(make_engine(reference.folder))


@pytest.mark.parametrize("kind", ["type", "rope_type"])
def test_the_config_of_transformers_4_means_the_same(
    references: References, tmp_path: Path, kind: str
) -> None:
    source = references("llama-3.1").folder
    shutil.copy(source / "config.json", tmp_path)
    rope = json.loads((source / "config.json").read_text())["rope_parameters"]
    theta, rope_type = rope.pop("rope_theta"), rope.pop("rope_type")
    _edit(
        tmp_path / "config.json",
        rope_parameters=None,
        rope_scaling={**rope, kind: rope_type},
        rope_theta=theta,
        dtype=None,
        torch_dtype="float32",
    )
    old, new = load_spec(tmp_path), load_spec(source)
    assert old == new
    assert new.rope == RopeSpec(5000.0, "llama3", 8.0, 1.0, 4.0, 32)


def test_end_tokens_come_from_the_generation_config_first(folder: Path) -> None:
    _edit(folder / "config.json", eos_token_id=2)
    assert load_spec(folder).eos_token_ids == {2}
    _edit(folder / "generation_config.json", eos_token_id=[5, 6])
    assert load_spec(folder).eos_token_ids == {5, 6}


def test_a_checkpoint_without_architectures_is_known_by_its_model_type(folder: Path) -> None:
    _edit(folder / "config.json", architectures=None)
    assert load_spec(folder).num_layers == 2


def test_a_tied_head_in_the_file_is_ignored(folder: Path, make_engine: MakeEngine) -> None:
    _edit(folder / "config.json", tie_word_embeddings=True)
    assert _first_tokens(make_engine(folder))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"architectures": ["MambaForCausalLM"]},
            "MambaForCausalLM is unknown: known are LlamaForCausalLM, Qwen2",
        ),
        ({"architectures": None, "model_type": "mamba"}, "mamba is unknown"),
        ({"architectures": None, "model_type": None}, "None is unknown"),
        ({"hidden_size": None}, "hidden_size is None"),
        ({"num_hidden_layers": "two"}, "num_hidden_layers is 'two'"),
        ({"vocab_size": -1}, "vocab_size is -1"),
        ({"num_key_value_heads": 3}, "no multiple of 3"),
        ({"head_dim": 7}, "head_dim is 7"),
        ({"hidden_act": "gelu"}, "only silu"),
        ({"quantization_config": {"bits": 4}}, "quantized"),
        ({"use_sliding_window": True, "sliding_window": 16}, "sliding-window"),
        (
            {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}},
            "yarn is unknown: known are default, linear",
        ),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 2.0}}, "low_freq_factor is None"),
        ({"rope_parameters": [1]}, "must be an object"),
        ({"dtype": "int8"}, "int8: known are float32"),
        ({"eos_token_id": "</s>"}, "eos_token_id is '</s>'"),
        ({"tie_word_embeddings": "yes"}, "true or false"),
        ({"rms_norm_eps": 0}, "above 0"),
    ],
)
def test_a_config_that_cannot_be_served_names_file_and_field(
    folder: Path, changes: dict[str, object], message: str
) -> None:
    (folder / "generation_config.json").unlink()
    _edit(folder / "config.json", **changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_spec(folder)
    assert "config.json" in str(caught.value)


@pytest.mark.parametrize("text", ["", "[1]", "{", "\x00"])
def test_a_config_that_is_no_json_object_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_spec(folder)


def test_a_missing_folder_and_a_missing_config_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a folder"):
        load_spec(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        load_spec(tmp_path)


@pytest.mark.parametrize("kept", [0, 4, 100, 20_000])
def test_a_truncated_file_is_refused(folder: Path, make_engine: MakeEngine, kept: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is truncated or corrupt"):
        make_engine(folder)


def test_a_missing_file_is_refused(folder: Path, make_engine: MakeEngine) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="neither"):
        make_engine(folder)


def test_missing_misshapen_surplus_and_integer_tensors_are_refused_by_name(
    folder: Path, make_engine: MakeEngine
) -> None:
    good = (folder / "model.safetensors").read_bytes()
    name = "model.layers.1.self_attn.k_proj.weight"
    edits: list[tuple[str, Callable[[dict[str, torch.Tensor]], object]]] = [
        ("lacks the tensor", lambda tensors: tensors.pop(name)),
        (r"is \[3, 3\], but config.json makes it \[32, 64\]", lambda t: t.update({name: torch.ones(3, 3)})),
        ("quantized", lambda t: t.update({name: torch.ones(32, 64, dtype=torch.int8)})),
        ("unknown tensor", lambda t: t.update({name.replace("weight", "bias"): torch.ones(32)})),
    ]
    for message, edit in edits:
        (folder / "model.safetensors").write_bytes(good)
        _edit_tensors(folder, edit)
        with pytest.raises(CheckpointError, match=message) as caught:
            make_engine(folder)
        assert "k_proj" in str(caught.value)


def test_a_broken_index_is_refused(references: References, make_engine: MakeEngine, tmp_path: Path) -> None:
    references("llama").model.save_pretrained(tmp_path, max_shard_size="40KB")
    index = tmp_path / "model.safetensors.index.json"
    whole = json.loads(index.read_text())
    for text, message in (("{", "cannot be read"), ('{"weight_map": {"a": "../b"}}', "cannot be read")):
        index.write_text(text)
        with pytest.raises(CheckpointError, match=message):
            make_engine(tmp_path)
    whole["weight_map"]["model.norm.weight"] = sorted(whole["weight_map"].values())[0]
    index.write_text(json.dumps(whole))
    with pytest.raises(CheckpointError, match=r"lacks model\.norm\.weight"):
        make_engine(tmp_path)
    next(tmp_path.glob("*-00002-*")).unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        make_engine(tmp_path)


def test_lengths_and_memory_decide_the_number_of_blocks(folder: Path, make_engine: MakeEngine) -> None:
    assert make_engine(folder, num_blocks=None, max_num_seqs=2).num_blocks == 2 * 256 // 4
    small = make_engine(folder, num_blocks=None, kv_memory_bytes=100_000)
    assert small.num_blocks == 100_000 // small.layout.block_bytes
    assert small.max_model_len == small.num_blocks * 4 < 256
    assert make_engine(folder, max_model_len=100).max_model_len == 100


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kv_memory_bytes": 10, "num_blocks": None}, "hold no KV block"),
        ({"max_model_len": 257}, "limit is 256"),
        ({"max_batched_tokens": 3}, "max_batched_tokens is 3"),
        ({"block_size": 0}, "block_size is 0"),
        ({"dtype": "int8"}, "known are auto"),
    ],
)
def test_impossible_settings_are_refused(
    folder: Path, make_engine: MakeEngine, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_engine(folder, **changes)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_device_is_refused(folder: Path, make_engine: MakeEngine) -> None:
    with pytest.raises(ConfigError, match="no CUDA device"):
        make_engine(folder, device="cuda")


def test_auto_is_float32_on_a_cpu(folder: Path, make_engine: MakeEngine) -> None:
    _edit(folder / "config.json", dtype="bfloat16")
    assert make_engine(folder, dtype="auto").layout.dtype == "float32"
    assert EngineConfig(folder).dtype == "auto"
