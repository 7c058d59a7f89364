"""The id of a request: the router's when it sends one, else our own; the answer carries it."""

import re
from uuid import uuid4

from aiohttp import web

HEADER = "x-request-id"
FORM = re.compile(r"[\x21-\x7e]{1,200}")
_KEY = web.RequestKey("request_id", str)


def request_id(request: web.Request) -> str:
    """The same on every call for one request."""
    if _KEY not in request:
        sent = request.headers.get(HEADER, "")
        request[_KEY] = sent if FORM.fullmatch(sent) else uuid4().hex
    return request[_KEY]


async def add_request_id(request: web.Request, response: web.StreamResponse) -> None:
    """An `on_response_prepare` signal."""
    response.headers[HEADER] = request_id(request)
