"""What people do to a service that runs: scale it, break it, misconfigure it."""

from tandem_e2e.client import ask_all, chat
from tandem_e2e.kubectl import Object
from tandem_e2e.scenario.run import SERVICE, Run
from tandem_e2e.shell import CommandError

DECODE = f"{SERVICE}-decode"


def scale(this: Run) -> None:
    """`kubectl scale pool/...` up, and every worker takes requests; and down again."""
    this.kubectl("scale", f"pool/{DECODE}", "--replicas=3")
    this.settled(prefill=2, decode=3)

    def all_serve() -> bool:
        answers = ask_all(this.url, [chat(prompt) for prompt in this.expected], at_once=6)
        return len({answer.headers.get("x-tandem-decode") for answer in answers}) == 3

    this.wait("all three decode workers to serve", all_serve, 30)
    this.kubectl("scale", f"pool/{DECODE}", "--replicas=2")
    this.settled(prefill=2, decode=2)


def heal(this: Run) -> None:
    """Children that somebody deletes come back; what somebody edits is put back."""
    kubectl = this.kubectl
    uid = _uid(this, "service", SERVICE)
    kubectl("delete", "service", SERVICE)
    this.wait("the deleted Service", lambda: _uid(this, "service", SERVICE) not in ("", uid))

    kubectl.patch("service", SERVICE, {"spec": {"selector": {"tandemserve.dev/service": "nobody"}}})
    this.wait("the edited Service to be put back", lambda: _selects(this, SERVICE))

    uid = _uid(this, "deployment", DECODE)
    kubectl("delete", "deployment", DECODE)
    this.wait("the deleted Deployment", lambda: _uid(this, "deployment", DECODE) not in ("", uid))

    kubectl("scale", f"deployment/{DECODE}", "--replicas=1")
    this.wait("the edited Deployment to be put back", lambda: _replicas(this, DECODE) == 2)
    this.settled(prefill=2, decode=2)
    this.available()
    _answers(this)


def bad_spec(this: Run) -> None:
    """A spec that cannot work is refused: by the API server, or by a condition and an Event."""
    before = sorted(pod["metadata"]["uid"] for pod in this.pods())
    prefill = this.kubectl.get("llmservice", SERVICE)
    assert prefill is not None
    good = prefill["spec"]["pools"]
    if refusal := _refusal(this, {"spec": {"pools": good[:1]}}):  # by a server that knows CEL
        assert "pools need one of role" in refusal, f"refused for another reason: {refusal}"
        return
    degraded = this.wait("the condition Degraded", lambda: _degraded(this))
    assert degraded["reason"] == "InvalidSpec", f"Degraded for {degraded['reason']}"
    assert "pools need one of role" in degraded["message"], f"unclear: {degraded['message']}"

    def told() -> bool:
        return any(event["reason"] == "InvalidSpec" for event in this.kubectl.events(SERVICE))

    this.wait("an Event about the bad spec", told)
    _answers(this)
    after = sorted(pod["metadata"]["uid"] for pod in this.pods())
    assert after == before, "pods changed while the spec was bad"
    this.kubectl.patch("llmservice", SERVICE, {"spec": {"pools": good}})
    this.wait("the condition Degraded to go", lambda: not _degraded(this))


def _refusal(this: Run, change: Object) -> str:
    try:
        this.kubectl.patch("llmservice", SERVICE, change)
    except CommandError as error:
        return str(error)
    return ""


def _answers(this: Run) -> None:
    prompt, text = next(iter(this.expected.items()))

    def right() -> bool:
        return ask_all(this.url, [chat(prompt)])[0].text == text

    this.wait("a right answer", right, 20)


def _degraded(this: Run) -> dict[str, str] | None:
    condition = this.kubectl.condition("llmservice", SERVICE, "Degraded")
    return condition if condition.get("status") == "True" else None


def _uid(this: Run, kind: str, name: str) -> str:
    found = this.kubectl.get(kind, name) or {"metadata": {"uid": ""}}
    return str(found["metadata"]["uid"])


def _selects(this: Run, name: str) -> bool:
    found = this.kubectl.get("service", name) or {}
    return bool(found and found["spec"]["selector"]["tandemserve.dev/service"] == name)


def _replicas(this: Run, name: str) -> int:
    found = this.kubectl.get("deployment", name) or {"spec": {"replicas": -1}}
    return int(found["spec"]["replicas"])
