import json
from pathlib import Path

import pytest

from tandem_e2e.questions import questions
from tandem_e2e.shell import CommandError, run, until
from tandem_e2e.steps import Steps, table


def test_questions_have_one_answer_and_repeat_by_seed() -> None:
    asked = questions(50, (1, 40), "seed")
    assert asked == questions(50, (1, 40), "seed")
    assert asked != questions(50, (1, 40), "other")
    for question in asked:
        *facts, last = question.prompt.splitlines()
        assert facts.count(f"{last.removesuffix('?')} = {question.value}") == 1


def test_a_step_that_fails_is_in_the_table(tmp_path: Path) -> None:
    record = tmp_path / "steps.jsonl"
    steps = Steps(record)
    with steps.step("first"):
        pass
    with pytest.raises(KeyError), steps.step("second"):
        raise KeyError
    steps.skip("third", "no Prometheus")
    assert [json.loads(line)["result"] for line in record.read_text().splitlines()] == [
        "ok",
        "failed",
        "skipped: no Prometheus",
    ]
    assert [line.split()[0] for line in table(record).splitlines()] == ["first", "second", "third", "total"]


def test_a_failed_command_tells_what_it_said() -> None:
    with pytest.raises(CommandError, match=r"exited 3\nout\nerr"):
        run("sh", "-c", "echo out; echo err >&2; exit 3")
    with pytest.raises(CommandError, match="did not end within"):
        run("sleep", "5", timeout=0.05)


def test_waiting_forgives_commands_that_fail_and_ends_with_their_words() -> None:
    tries = iter([CommandError("no route"), 0, "here"])

    def check() -> object:
        value = next(tries)
        if isinstance(value, CommandError):
            raise value
        return value

    assert until("it", check, timeout=5, poll=0.001) == "here"
    with pytest.raises(AssertionError, match=r"(?s)waited 0 s for rain: .*never"):
        until("rain", lambda: run("sh", "-c", "echo never; exit 1") and None, timeout=0.0, poll=0.001)
