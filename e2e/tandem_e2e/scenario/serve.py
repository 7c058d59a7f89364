"""The quickstart serves: right answers through two pods, the same text as from one."""

import yaml

from tandem_e2e.client import Answer, ask_all, chat, completion
from tandem_e2e.door import PortForwards
from tandem_e2e.kubectl import Object
from tandem_e2e.questions import questions
from tandem_e2e.scenario.run import SAMPLE, SERVICE, Run

MIXED = "mixed"
LINES = (1, 3, 8, 20, 40)
RECALL = 0.95
SEEDED = {"temperature": 0.8, "top_p": 0.9}


def quickstart(this: Run) -> None:
    """`kubectl apply` of the sample as it is, and it becomes Available."""
    this.kubectl("apply", "-f", str(SAMPLE))
    this.available()
    this.kubectl.patch("llmservice", SERVICE, {"spec": {"autoscaling": {"mode": "manual"}}})
    this.kubectl("scale", "pool", "--replicas=2", f"{SERVICE}-prefill", f"{SERVICE}-decode")
    this.settled(prefill=2, decode=2)


def streamed_answer(this: Run) -> None:
    """A streamed chat completion is right, and its headers name two pods."""
    question = questions(1, (4, 4), "first light")[0]
    answer = _whole(ask_all(this.url, [chat(question.prompt)]))[0]
    assert answer.text == question.value, f"answered {answer.text!r} instead of {question.value!r}"
    prefill, decode = answer.headers["x-tandem-prefill"], answer.headers["x-tandem-decode"]
    names = {pod["metadata"]["name"] for pod in this.pods()}
    assert prefill in names, f"x-tandem-prefill names {prefill}, which is none of {names}"
    assert decode in names, f"x-tandem-decode names {decode}, which is none of {names}"
    assert prefill != decode, f"prefilled and decoded on {decode}"
    assert answer.headers["x-tandem-path"] == "disaggregated"
    doors = PortForwards(this.kubectl)
    try:
        forwarded = _whole(ask_all(doors.url(SERVICE), [chat(question.prompt)]))[0]
    finally:
        doors.close()
    assert forwarded.text == question.value, f"answered {forwarded.text!r} through kubectl port-forward"


def equality(this: Run) -> None:
    """Prompts of many lengths, greedy and seeded: the texts equal those of one mixed worker."""
    this.kubectl.apply(_mixed())
    this.available(MIXED)
    asked = [question for lines in LINES for question in questions(8, (lines, lines), f"equal {lines}")]
    bodies = [
        *(chat(question.prompt) for question in asked),
        *(chat(question.prompt, **SEEDED, seed=n, stream=n % 2 == 0) for n, question in enumerate(asked)),
        *(completion("x" * length, max_tokens=24) for length in range(1, 50)),
        *(completion("ab " * length, **SEEDED, seed=length) for length in (5, 21, 22, 43, 150)),
    ]
    alone = _whole(ask_all(this.doors.url(MIXED), bodies))
    together = _whole(ask_all(this.url, bodies))
    different = [
        f"{body}: {one.text!r} from the mixed worker, {two.text!r} after a hand-over"
        for body, one, two in zip(bodies, alone, together, strict=True)
        if one.text != two.text
    ]
    assert not different, f"{len(different)} of {len(bodies)} texts differ:\n" + "\n".join(different[:5])
    paths = {answer.headers["x-tandem-path"] for answer in together}
    assert paths == {"disaggregated"}, f"paths {paths}"
    _recall([question.value for question in asked], together[: len(asked)])
    this.expected = {question.prompt: one.text for question, one in zip(asked, alone, strict=False)}
    this.kubectl("delete", "llmservice", MIXED)


def _recall(values: list[str], answers: list[Answer]) -> None:
    right = sum(answer.text == value for value, answer in zip(values, answers, strict=True))
    print(f"    {right} of {len(values)} recall answers are right")
    assert right >= RECALL * len(values), f"only {right} of {len(values)} recall answers are right"


def _mixed() -> Object:
    service: Object = yaml.safe_load(SAMPLE.read_text())
    service["metadata"]["name"] = MIXED
    pool = {key: service["spec"]["pools"][0][key] for key in ("resources",)}
    service["spec"]["pools"] = [{"name": "mixed", "role": "mixed", "replicas": 1, **pool}]
    service["spec"]["autoscaling"] = {"mode": "manual"}
    return service


def _whole(answers: list[Answer]) -> list[Answer]:
    failed = [answer.error for answer in answers if answer.error is not None]
    assert not failed, f"{len(failed)} of {len(answers)} requests failed: {failed[:3]}"
    return answers
