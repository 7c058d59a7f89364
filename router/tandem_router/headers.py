"""HTTP headers that pass the router, and request ids. Everything else stays outside: an allow-list."""

import re
from collections.abc import Callable, Mapping

REQUEST_ID = "x-request-id"
_FORWARDED = ("traceparent", "tracestate")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def forwarded(headers: Mapping[str, str]) -> dict[str, str]:
    """The client's headers that workers may see: tracing only."""
    return {name: headers[name] for name in _FORWARDED if name in headers}


def request_ids(given: str | None, new_id: Callable[[], str]) -> tuple[str, str]:
    """The client's id of a request, and the workers'.

    Engines key KV by the id they are told, and clients repeat theirs: the workers' id is always new.
    """
    unique = new_id()
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given, f"{given}-{unique[:12]}"
    return unique, unique


def attempt_id(engine_id: str, attempt: int) -> str:
    """The id of one attempt (1, 2, ...), so that no engine mistakes one for the other."""
    return engine_id if attempt == 1 else f"{engine_id}-a{attempt}"
