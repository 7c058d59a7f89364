"""A client's view: the official OpenAI client, and what it gets to see."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from openai import OpenAI

from tandem_vllm import checkpoint

TIMEOUT = 60.0

Kind = Literal["completion", "chat"]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, streamed or not. `workers`: what the router says of prefill, decode and the path.

    `events`: how many pieces of text a stream came in.
    """

    text: str
    finish_reason: str | None
    prompt_tokens: int
    completion_tokens: int
    id: str
    workers: tuple[str | None, str | None, str | None]
    events: int = 1

    @property
    def content(self) -> tuple[str, str | None, int, int]:
        """What has to be the same whoever computes it."""
        return self.text, self.finish_reason, self.prompt_tokens, self.completion_tokens


def connect(url: str) -> OpenAI:
    """A client of the server at that base URL, which never asks twice."""
    return OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=TIMEOUT)


def ask(
    client: OpenAI,
    prompt: str,
    *,
    kind: Kind = "completion",
    stream: bool = False,
    at_event: tuple[int, Callable[[], None]] | None = None,
    **options: Any,
) -> Answer:
    """Ask the model, greedily unless `options` say else. `at_event`: call this at that event of a stream."""
    body: dict[str, Any] = {
        "model": checkpoint.MODEL,
        "temperature": 0,
        "max_tokens": 48,
        "stream": stream,
        **options,
    }
    if stream:
        body["stream_options"] = {"include_usage": True}
    if kind == "chat":
        body["messages"] = [{"role": "user", "content": prompt}]
        raw = client.chat.completions.with_raw_response.create(**body)
    else:
        raw = client.completions.with_raw_response.create(**body, prompt=prompt)
    headers = raw.headers
    chunks = []
    for chunk in raw.parse() if stream else [raw.parse()]:
        chunks.append(chunk)
        if at_event is not None and len(chunks) == at_event[0]:
            at_event[1]()
    (usage,) = (chunk.usage for chunk in chunks if chunk.usage)
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    reasons = [choice.finish_reason for choice in choices if choice.finish_reason]
    return Answer(
        text="".join(_text(choice) for choice in choices),
        finish_reason=reasons[-1] if reasons else None,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        id=chunks[0].id,
        workers=(
            headers.get("x-tandem-prefill"),
            headers.get("x-tandem-decode"),
            headers.get("x-tandem-path"),
        ),
        events=sum(bool(_text(choice)) for choice in choices),
    )


def _text(choice: Any) -> str:
    part = getattr(choice, "delta", None) or getattr(choice, "message", None)
    return (part.content if part else choice.text) or ""
