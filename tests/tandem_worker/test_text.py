"""From engine outputs to the text of an answer, and every way in which it can end."""

from tandem_worker.request import FinishReason, StepOutput, TokenLogprobs
from tandem_worker.text import Delta, TextAssembler
from tandem_worker.tokenizer import byte_tokenizer

BYTES = byte_tokenizer()
EOS = frozenset({0})


def run(text: bytes, end: FinishReason | None, stops: tuple[str, ...] = ()) -> list[Delta]:
    assembler = TextAssembler(BYTES, list(b"prompt"), stops, EOS)
    deltas: list[Delta] = []
    for index, token_id in enumerate(text):
        reason = end if index == len(text) - 1 else None
        deltas.append(assembler.push(StepOutput("r", token_id, TokenLogprobs(-0.5), reason, 3)))
        if deltas[-1].finish_reason is not None:
            break
    return deltas


def text_of(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


def test_length_sends_everything_that_was_held() -> None:
    deltas = run(b"so EN", FinishReason.LENGTH, ("END",))
    assert text_of(deltas) == "so EN"
    assert [delta.text for delta in deltas][-3:] == [" ", "", "EN"]
    assert (deltas[-1].finish_reason, deltas[-1].stop) == (FinishReason.LENGTH, None)
    assert [delta.num_output_tokens for delta in deltas] == [1, 2, 3, 4, 5]
    assert {delta.num_cached_tokens for delta in deltas} == {3}


def test_a_stop_string_ends_the_answer_before_the_engine_does() -> None:
    deltas = run(b"so END and more", FinishReason.LENGTH, ("END",))
    assert text_of(deltas) == "so "
    assert len(deltas) == 6
    assert (deltas[-1].finish_reason, deltas[-1].stop) == (FinishReason.STOP, "END")


def test_the_end_of_sequence_token_is_not_text_and_no_stop_reason() -> None:
    deltas = run(b"hi\0", FinishReason.STOP)
    assert text_of(deltas) == "hi"
    assert (deltas[-1].finish_reason, deltas[-1].stop) == (FinishReason.STOP, None)


def test_a_stop_token_is_not_text_and_is_the_stop_reason() -> None:
    deltas = run(b"hi!", FinishReason.STOP)
    assert text_of(deltas) == "hi"
    assert (deltas[-1].finish_reason, deltas[-1].stop) == (FinishReason.STOP, ord("!"))


def test_half_a_character_at_the_end_is_one_replacement() -> None:
    assert text_of(run("aé".encode()[:-1], FinishReason.LENGTH)) == "a�"


def test_a_stop_string_may_hold_a_character_of_several_tokens() -> None:
    deltas = run("a日本b".encode(), FinishReason.LENGTH, ("日本",))
    assert text_of(deltas) == "a"
    assert deltas[-1].stop == "日本"
