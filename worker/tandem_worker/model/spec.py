"""What config.json says of a model, checked and in one form for every family. No torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tandem_worker.errors import CheckpointError
from tandem_worker.kv import DTYPE_BYTES
from tandem_worker.model.json_fields import Fields


@dataclass(frozen=True, slots=True)
class Family:
    """How a family differs from plain Llama. `qkv_bias` and `head_dim` None: config.json decides."""

    qkv_bias: bool | None = None
    out_bias: bool | None = None
    qk_norm: bool = False
    head_dim: int | None = None


FAMILIES: Mapping[str, Family] = {
    "LlamaForCausalLM": Family(),
    "Qwen2ForCausalLM": Family(qkv_bias=True, out_bias=False),
    "Qwen3ForCausalLM": Family(qk_norm=True, head_dim=128),
}
_BY_MODEL_TYPE = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}


@dataclass(frozen=True, slots=True)
class RopeSpec:
    """Rotary embedding: `rope_type` default, linear or llama3 (the last with its three extra parameters)."""

    theta: float
    rope_type: str = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position: int = 8192


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A decoder-only transformer with RMSNorm, rotary embedding, grouped-query attention and SwiGLU."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    norm_eps: float
    rope: RopeSpec
    max_position: int
    tied_embeddings: bool
    qkv_bias: bool
    out_bias: bool
    mlp_bias: bool
    qk_norm: bool
    initializer_range: float
    dtype: str
    eos_token_ids: frozenset[int]


def load_spec(folder: Path) -> ModelSpec:
    """Reads config.json and generation_config.json. Raises `CheckpointError`."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder: give the folder of a Hugging Face checkpoint")
    fields = Fields(_read_json(folder / "config.json"), folder / "config.json")
    generation = folder / "generation_config.json"
    eos = (
        Fields(_read_json(generation), generation).token_ids("eos_token_id") if generation.exists() else None
    )
    return parse_spec(fields, eos if eos is not None else fields.token_ids("eos_token_id") or frozenset())


def parse_spec(fields: Fields, eos_token_ids: frozenset[int] = frozenset()) -> ModelSpec:
    """The model that a config.json of transformers 4 or 5 describes. Raises `CheckpointError`."""
    family = _family(fields)
    _refuse_unsupported(fields)
    num_heads = fields.count("num_attention_heads")
    rope = _rope(fields)
    bias = fields.flag("attention_bias")
    spec = ModelSpec(
        vocab_size=fields.count("vocab_size"),
        hidden_size=fields.count("hidden_size"),
        intermediate_size=fields.count("intermediate_size"),
        num_layers=fields.count("num_hidden_layers"),
        num_heads=num_heads,
        num_kv_heads=fields.count("num_key_value_heads", num_heads),
        head_dim=fields.count("head_dim", family.head_dim or fields.count("hidden_size") // num_heads),
        norm_eps=fields.number("rms_norm_eps", 1e-6),
        rope=rope,
        max_position=_max_position(fields, rope),
        tied_embeddings=fields.flag("tie_word_embeddings"),
        qkv_bias=bias if family.qkv_bias is None else family.qkv_bias,
        out_bias=bias if family.out_bias is None else family.out_bias,
        mlp_bias=fields.flag("mlp_bias"),
        qk_norm=family.qk_norm,
        initializer_range=fields.number("initializer_range", 0.02),
        dtype=_dtype(fields),
        eos_token_ids=eos_token_ids,
    )
    if spec.num_heads % spec.num_kv_heads:
        raise fields.error(
            f"num_attention_heads {spec.num_heads} is no multiple of {spec.num_kv_heads} KV heads"
        )
    if spec.head_dim % 2:
        raise fields.error(f"head_dim is {spec.head_dim}: rotary embedding needs an even one")
    return spec


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing: is this a Hugging Face checkpoint?") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}): download the checkpoint again") from None
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} holds no JSON object: download the checkpoint again")
    return data


def _family(fields: Fields) -> Family:
    names = fields.get("architectures") or [
        _BY_MODEL_TYPE.get(str(fields.get("model_type")), fields.get("model_type"))
    ]
    name = names[0] if isinstance(names, list) else names
    if name not in FAMILIES:
        raise fields.error(f"the architecture {name} is unknown: known are {', '.join(FAMILIES)}")
    return FAMILIES[name]


def _refuse_unsupported(fields: Fields) -> None:
    if fields.get("quantization_config") is not None:
        raise fields.error("the weights are quantized: use the checkpoint in bfloat16, float16 or float32")
    if fields.get("hidden_act", "silu") != "silu":
        raise fields.error(f"hidden_act is {fields.get('hidden_act')}: only silu is known")
    if fields.get("use_sliding_window") and fields.get("sliding_window") is not None:
        raise fields.error(
            "the model uses sliding-window attention, which is unknown here: set use_sliding_window false"
        )


def _dtype(fields: Fields) -> str:
    name = str(fields.get("dtype") or fields.get("torch_dtype") or "float32").removeprefix("torch.")
    if name not in DTYPE_BYTES:
        raise fields.error(f"dtype is {name}: known are {', '.join(DTYPE_BYTES)}")
    return name


def _max_position(fields: Fields, rope: RopeSpec) -> int:
    """Linear scaling stretches the trained length; for llama3, config.json gives the stretched one."""
    trained = fields.count("max_position_embeddings")
    return int(trained * rope.factor) if rope.rope_type == "linear" else trained


def _rope(fields: Fields) -> RopeSpec:
    """transformers 4 writes rope_theta and rope_scaling (older: with `type`), 5 writes rope_parameters."""
    rope = fields.section("rope_parameters") or fields.section("rope_scaling")
    theta = rope.number("rope_theta", fields.number("rope_theta", 10000.0))
    rope_type = rope.get("rope_type") or rope.get("type") or "default"
    if rope_type == "default":
        return RopeSpec(theta)
    if rope_type == "linear":
        return RopeSpec(theta, "linear", rope.number("factor"))
    if rope_type != "llama3":
        raise fields.error(f"the RoPE scaling {rope_type} is unknown: known are default, linear, llama3")
    return RopeSpec(
        theta,
        "llama3",
        factor=rope.number("factor"),
        low_freq_factor=rope.number("low_freq_factor"),
        high_freq_factor=rope.number("high_freq_factor"),
        original_max_position=rope.count("original_max_position_embeddings"),
    )
