"""Events of the worker that goes on, written as those of the worker that began. Pure."""

import json
from typing import Any

from tandem_router.continuation.emitted import Head
from tandem_router.sse import SseError, split_events

_PREFIX = b"data:"
JsonObject = dict[str, Any]


class Joint:
    """Gives every event the head of the first worker's, and the usage of the whole answer.

    `resumed`: output tokens that the worker takes for prompt; 0 where it knows them as output. `to_chat`: it
    was asked for a text completion, the client for a chat. `skip`: characters that the client has already.
    `echo`: the end of the text before; if the first text has it, new text begins after it.
    """

    __slots__ = ("_echo", "_head", "_resumed", "_skip", "_to_chat")

    def __init__(
        self, head: Head, *, resumed: int = 0, to_chat: bool = False, skip: int = 0, echo: str = ""
    ) -> None:
        self._head, self._resumed, self._to_chat = head, resumed, to_chat
        self._skip, self._echo = skip, echo

    def write(self, events: bytes) -> bytes:
        """Whole events in and out. Raises SseError for one that cannot be read."""
        return b"".join([self._event(event) for event in split_events(events)])

    def _event(self, event: bytes) -> bytes:
        data = event.removeprefix(_PREFIX).strip()
        if not event.startswith(_PREFIX) or not data.startswith(b"{") or b'"error"' in data[:16]:
            return event
        try:
            payload = json.loads(data)
        except ValueError as error:
            raise SseError("an event of the stream's next worker is no JSON") from error
        payload |= {"id": self._head.id, "created": self._head.created}
        if payload.get("usage"):
            self._correct(payload["usage"])
        for choice in payload.get("choices") or ():
            self._edit(choice)
        if self._to_chat:
            payload["object"] = "chat.completion.chunk"
            payload["choices"] = [_as_chat(choice) for choice in payload["choices"]]
        return b"data: " + json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"

    def _correct(self, usage: JsonObject) -> None:
        usage["prompt_tokens"] -= self._resumed
        usage["completion_tokens"] = usage.get("completion_tokens", 0) + self._resumed
        details = usage.get("prompt_tokens_details")
        if details and details.get("cached_tokens"):
            details["cached_tokens"] = min(details["cached_tokens"], usage["prompt_tokens"])

    def _edit(self, choice: JsonObject) -> None:
        text = choice.get("text")
        if not text:
            return
        if self._echo:
            at = text.rfind(self._echo)
            text = text if at < 0 else text[at + len(self._echo) :]
            self._echo = ""
        choice["text"] = text[self._skip :]
        self._skip -= min(self._skip, len(text))


def _as_chat(choice: JsonObject) -> JsonObject:
    chat = {key: value for key, value in choice.items() if key not in ("text", "prompt_token_ids")}
    return {"index": chat.pop("index", 0), "delta": {"content": choice.get("text") or ""}, **chat}


def closing(head: Head, *, chat: bool, model: str, usage: tuple[int, int] | None) -> bytes:
    """The end of a stream whose last token came: `usage` is of prompt and output, None if not asked for."""
    if usage is None:
        return b"data: [DONE]\n\n"
    prompt, output = usage
    payload: JsonObject = {
        "id": head.id,
        "object": "chat.completion.chunk" if chat else "text_completion",
        "created": head.created,
        "model": model,
        "choices": [],
        "usage": {
            "prompt_tokens": prompt,
            "total_tokens": prompt + output,
            "completion_tokens": output,
        },
    }
    return b"data: " + json.dumps(payload, separators=(",", ":")).encode() + b"\n\ndata: [DONE]\n\n"
