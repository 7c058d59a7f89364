"""Errors as the OpenAI API writes them."""

import json
from collections.abc import Mapping

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class ApiError(Exception):
    """An answer that is an error. `code` is machine-readable; `retry_after` is in seconds."""

    headers: Mapping[str, str] = {}

    def __init__(
        self, status: int, message: str, code: str, param: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code
        self.param, self.retry_after = param, retry_after

    def encode(self) -> bytes:
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return json.dumps({"error": error}).encode()


def invalid(message: str, param: str | None = None, code: str = "invalid_value") -> ApiError:
    return ApiError(400, message, code, param)


def unauthorized(message: str) -> ApiError:
    return ApiError(401, message, "invalid_api_key")


def forbidden(model: str) -> ApiError:
    return ApiError(403, f"this API key may not ask for the model {model!r}", "model_not_allowed", "model")


def rate_limited(what: str, limit: int, retry_after: int, headers: Mapping[str, str]) -> ApiError:
    message = f"this API key's limit of {limit} {what} a minute is reached"
    error = ApiError(429, message, "rate_limited", retry_after=max(1, retry_after))
    error.headers = headers
    return error


def needs_whole_worker(feature: str) -> ApiError:
    message = f"{feature} needs a worker that serves whole requests, and there is none"
    return ApiError(400, message, "needs_whole_worker", feature)


def no_worker(model: str, reason: str) -> ApiError:
    return ApiError(503, f"no worker can serve {model!r} now ({reason})", reason, retry_after=5)


def upstream_failed(detail: str) -> ApiError:
    return ApiError(502, f"the workers failed: {detail}", "upstream_error")


def workers_busy() -> ApiError:
    return ApiError(503, "every worker that was asked refused: busy", "workers_busy", retry_after=1)


def deadline_exceeded(retry_after: int | None = None) -> ApiError:
    message = "the request's deadline passed before the answer was complete"
    return ApiError(504, message, "deadline_exceeded", retry_after=retry_after)


def unattainable(service_class: str, retry_after: int | None) -> ApiError:
    message = f"the objectives of class {service_class!r} cannot be met now"
    return ApiError(429, message, "class_unattainable", retry_after=retry_after)


def queue_full(service_class: str, retry_after: int | None) -> ApiError:
    message = f"too many requests of class {service_class!r} wait already"
    return ApiError(429, message, "queue_full", retry_after=retry_after)


def no_capacity(model: str, retry_after: int | None) -> ApiError:
    message = f"no worker can serve {model!r} now; one is expected"
    return ApiError(503, message, "no_capacity", retry_after=retry_after)


def overloaded(limit: int) -> ApiError:
    return ApiError(429, f"{limit} requests are in flight already", "router_overloaded", retry_after=1)
