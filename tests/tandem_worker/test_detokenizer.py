"""Detokenising a token at a time gives the text of all tokens together, in whole characters."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models

from tandem_worker.detokenizer import REPLACEMENT, Detokenizer
from tandem_worker.tokenizer import Tokenizer, byte_tokenizer

BYTES = byte_tokenizer()


def pieces(tokenizer: Tokenizer, token_ids: list[int], context: list[int] | None = None) -> list[str]:
    detokenizer = Detokenizer(tokenizer, context or [])
    return [*(detokenizer.push(token_id) for token_id in token_ids), detokenizer.flush()]


def test_a_byte_tokenizer_is_the_bytes() -> None:
    assert BYTES.encode("hé\n", add_special_tokens=True) == list("hé\n".encode())
    assert BYTES.decode([104, 195, 169, 300]) == "hé"


def test_a_character_of_several_tokens_comes_when_it_is_complete() -> None:
    assert pieces(BYTES, list("a😀b".encode())) == ["a", "", "", "", "😀", "b", ""]


def test_an_unfinished_character_at_the_end_reads_as_a_replacement() -> None:
    assert pieces(BYTES, list("a😀".encode())[:-1]) == ["a", "", "", "", REPLACEMENT]


def test_garbage_is_not_held_for_ever() -> None:
    out = pieces(BYTES, [0xFF] * 100)
    assert "".join(out) == REPLACEMENT * 100
    assert sum(bool(piece) for piece in out) >= 6


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=30), st.text("é€a ", max_size=4))
def test_the_pieces_are_the_text(text: str, context: str) -> None:
    got = pieces(BYTES, list(text.encode()), list(context.encode()))
    assert "".join(got) == text
    assert all(REPLACEMENT not in piece for piece in got) or REPLACEMENT in text


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_give_valid_text(data: bytes) -> None:
    got = "".join(pieces(BYTES, list(data)))
    assert got.encode().decode() == got
    assert got.replace(REPLACEMENT, "") == data.decode(errors="ignore").replace(REPLACEMENT, "")


@pytest.fixture(scope="module")
def sentencepiece() -> Tokenizer:
    """Words that begin with a marked space, which the decoder strips at the start of a text."""
    backend = Backend(models.WordLevel({"<unk>": 0, "▁the": 1, "▁cat": 2, "s": 3, "</s>": 4}, "<unk>"))
    backend.decoder = decoders.Metaspace()
    backend.add_special_tokens(["</s>"])
    return Tokenizer(backend)


def test_the_first_token_keeps_its_space_after_a_prompt(sentencepiece: Tokenizer) -> None:
    assert "".join(pieces(sentencepiece, [2, 3, 1], [1])) == " cats the"
    assert "".join(pieces(sentencepiece, [2, 3, 1])) == "cats the"


def test_special_tokens_read_as_nothing(sentencepiece: Tokenizer) -> None:
    assert "".join(pieces(sentencepiece, [2, 4, 3, *[4] * 50, 1], [1])) == " cats the"
