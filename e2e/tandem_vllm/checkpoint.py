"""A small random Llama checkpoint, written as Hugging Face writes one."""

import json
import string
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

# One printable character a token: equal texts are equal tokens, and a prompt of n characters is n tokens.
ALPHABET = string.ascii_letters + string.digits + string.punctuation + " \n"
EOS, UNKNOWN = "<eos>", "<unk>"
TOKENS = (EOS, UNKNOWN, *ALPHABET)
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)

MODEL = "tiny"
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": len(TOKENS),
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10_000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "eos_token_id": 0,
    "bos_token_id": 0,
    "torch_dtype": "float32",
}

# Wide enough that the next token hangs on the whole prompt; at the usual 0.02 most prompts end in one loop.
SCALE = 0.2

Weights = dict[str, npt.NDArray[np.float32]]


def write(folder: Path, seed: int = 0) -> None:
    """Write config.json, model.safetensors and the tokenizer's files. Same seed, same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(_weights(np.random.default_rng(seed)), folder / "model.safetensors", metadata={"format": "pt"})
    for name, content in {
        "config.json": CONFIG,
        "generation_config.json": {"eos_token_id": CONFIG["eos_token_id"]},
        "tokenizer.json": _tokenizer(),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": EOS,
            "unk_token": UNKNOWN,
            "model_max_length": CONFIG["max_position_embeddings"],
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        },
    }.items():
        (folder / name).write_text(json.dumps(content, indent=1))


def kv_bytes(tokens: int) -> int:
    """Bytes of the keys and values of that many tokens in float32."""
    per_token: int = CONFIG["num_hidden_layers"] * CONFIG["num_key_value_heads"] * CONFIG["head_dim"]
    return 2 * 4 * per_token * tokens


def _weights(rng: np.random.Generator) -> Weights:
    hidden, inner, head = CONFIG["hidden_size"], CONFIG["intermediate_size"], CONFIG["head_dim"]
    queries, values = head * CONFIG["num_attention_heads"], head * CONFIG["num_key_value_heads"]
    shapes = {
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (values, hidden),
        "self_attn.v_proj": (values, hidden),
        "self_attn.o_proj": (hidden, queries),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }

    def normal(*shape: int) -> npt.NDArray[np.float32]:
        return rng.normal(0, SCALE, shape).astype(np.float32)

    ones = np.ones(hidden, np.float32)
    weights: Weights = {
        "model.embed_tokens.weight": normal(CONFIG["vocab_size"], hidden),
        "model.norm.weight": ones,
        "lm_head.weight": normal(CONFIG["vocab_size"], hidden),
    }
    for layer in range(CONFIG["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        weights |= {f"{prefix}.{name}.weight": normal(*shape) for name, shape in shapes.items()}
        weights |= {
            f"{prefix}.{name}.weight": ones for name in ("input_layernorm", "post_attention_layernorm")
        }
    return weights


def _tokenizer() -> dict[str, Any]:
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": token, **special} for i, token in enumerate(TOKENS[:2])],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": "[\\s\\S]"},
            "behavior": "Isolated",
            "invert": False,
        },
        "post_processor": None,
        "decoder": {"type": "Fuse"},
        "model": {
            "type": "WordLevel",
            "vocab": {token: i for i, token in enumerate(TOKENS)},
            "unk_token": UNKNOWN,
        },
    }
