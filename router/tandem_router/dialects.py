"""The APIs that are translated: their paths, and what becomes of a request to one. Pure."""

import json
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from tandem_router.errors import ApiError
from tandem_router.openai import BYTES_PER_TOKEN
from tandem_router.translate import Answerer, messages_request, responses_request
from tandem_router.translate.bodies import read_body
from tandem_router.translate.messages_answer import MessagesAnswer
from tandem_router.translate.messages_schema import CountRequest
from tandem_router.translate.responses_answer import ResponsesAnswer


class Translation(NamedTuple):
    """A chat completion's body, and who says its answer."""

    body: bytes
    answerer: Answerer


def _messages(data: bytes) -> Translation:
    return Translation(json.dumps(messages_request.chat_of(data)).encode(), MessagesAnswer())


def _responses(data: bytes) -> Translation:
    body, asked = responses_request.chat_of(data)
    return Translation(json.dumps(body).encode(), ResponsesAnswer(asked))


DIALECTS: dict[str, Callable[[bytes], Translation]] = {"/v1/messages": _messages, "/v1/responses": _responses}
COUNT_TOKENS = "/v1/messages/count_tokens"
_COMPLAINTS = MessagesAnswer()
_COUNTED = msgspec.json.Decoder(CountRequest)


def count_tokens(data: bytes) -> bytes:
    """The answer to COUNT_TOKENS: an estimate, as everywhere in the router. Raises ApiError (400)."""
    asked = read_body(data, _COUNTED)
    messages = messages_request.chat_messages(asked.system, asked.messages)
    size = sum(len(part) for part in (json.dumps(messages), msgspec.json.encode(asked.tools or [])))
    return json.dumps({"input_tokens": max(1, size // BYTES_PER_TOKEN)}).encode()


def error_for(path: str, error: ApiError) -> bytes:
    """An error in the shape of the API at `path`."""
    if path.startswith("/v1/messages"):
        return _COMPLAINTS.error(error.status, error.encode())
    return error.encode()
