"""Stop strings: found wherever the pieces are cut, and never sent, not even in part."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem_worker.stop_strings import StopStrings


def run(stops: list[str], pieces: list[str]) -> tuple[list[str], str | None]:
    checker = StopStrings(stops)
    sent = []
    for piece in pieces:
        match = checker.push(piece)
        sent.append(match.text)
        if match.stop is not None:
            return sent, match.stop
    sent.append(checker.flush())
    return sent, None


@pytest.mark.parametrize(
    ("stops", "pieces", "sent", "stop"),
    [
        (["END"], ["so E", "N", "D more"], ["so ", "", ""], "END"),
        (["END"], ["so E", "NTER"], ["so ", "ENTER", ""], None),
        (["END"], ["so EN"], ["so ", "EN"], None),
        (["\n\n"], ["a\n", "b\n", "\nc"], ["a", "\nb", ""], "\n\n"),
        (["abcd", "bc"], ["ab", "cd"], ["", "a"], "bc"),
        (["c", "abc"], ["abc"], [""], "abc"),
        (["aab"], ["aa", "ab"], ["", "a"], "aab"),
        ([], ["a", "b"], ["a", "b", ""], None),
        (["日本"], ["x日", "本"], ["x", ""], "日本"),
    ],
)
def test_examples(stops: list[str], pieces: list[str], sent: list[str], stop: str | None) -> None:
    assert run(stops, pieces) == (sent, stop)


LETTERS = st.text("ab", min_size=1, max_size=4)


@settings(max_examples=150, deadline=None)
@given(st.lists(LETTERS, max_size=3), st.lists(st.text("ab", max_size=5), max_size=8))
def test_the_cut_into_pieces_does_not_matter(stops: list[str], pieces: list[str]) -> None:
    text = "".join(pieces)
    sent, stop = run(stops, pieces)
    letters, letters_stop = run(stops, list(text))
    assert ("".join(sent), stop) == ("".join(letters), letters_stop)
    ends = [text.find(one) + len(one) for one in stops if one in text]
    assert (stop is None) == (not ends)
    if stop is not None:
        assert "".join(sent) == text[: min(ends) - len(stop)]


@settings(max_examples=100, deadline=None)
@given(st.lists(LETTERS, min_size=1, max_size=3), st.lists(LETTERS, max_size=8))
def test_what_is_sent_before_the_end_never_has_to_be_taken_back(stops: list[str], pieces: list[str]) -> None:
    sent, stop = run(stops, pieces)
    if stop is None:
        assert "".join(sent) == "".join(pieces)
    for one in stops:
        assert one not in "".join(sent)
