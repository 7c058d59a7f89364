"""Checkpoints as Hugging Face writes them."""

import json
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from tandem_recall.encoding import CHAT_TEMPLATE, MESSAGE_END, PAD, SPECIAL_TOKENS
from tandem_recall.settings import MODEL


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, its id the byte's value, then the special tokens."""
    symbols = bytes_to_unicode()
    tokenizer = Tokenizer(models.BPE(vocab={symbols[byte]: byte for byte in range(256)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=SPECIAL_TOKENS[1],
        pad_token=SPECIAL_TOKENS[2],
        chat_template=CHAT_TEMPLATE,
        model_max_length=MODEL["max_position_embeddings"],
        clean_up_tokenization_spaces=False,
    )


def save(model: PreTrainedModel, folder: Path) -> None:
    """Writes the model in bfloat16, its tokenizer and its generation defaults."""
    model.generation_config = GenerationConfig(eos_token_id=MESSAGE_END, pad_token_id=PAD, do_sample=False)
    module: torch.nn.Module = model
    module.to(torch.bfloat16)
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder, save_jinja_files=False)
    _rename_tokenizer_class(folder / "tokenizer_config.json")


def _rename_tokenizer_class(path: Path) -> None:
    """Puts the name that every version of transformers knows where version 5 writes its own."""
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {"tokenizer_class": "PreTrainedTokenizerFast"}, indent=2) + "\n")


def load(folder: Path, device: torch.device) -> PreTrainedModel:
    """The model in float32, ready to be measured."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    module: torch.nn.Module = model
    module.to(device).eval()
    return model
