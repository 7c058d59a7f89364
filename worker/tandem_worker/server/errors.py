"""Errors in the OpenAI shape, for everything that can go wrong with a request."""

import logging
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from tandem_worker.async_engine import EngineDeadError, OverloadedError
from tandem_worker.errors import RequestError, RequestTooLongError, WorkerError
from tandem_worker.importer import NoRoomError
from tandem_worker.transfer.base import TransferError
from tandem_worker.worker import DrainingError, WrongRoleError

logger = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 1


class ApiError(Exception):
    """What the client reads. `retry_after`: seconds after which the same request may succeed here."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.retry_after = retry_after

    def body(self) -> dict[str, Any]:
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> web.Response:
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return web.json_response(self.body(), status=self.status, headers=headers)


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    return ApiError(400, message, code=code, param=param)


def to_api_error(error: Exception) -> ApiError:
    """What the client is told about an error of the worker; nothing of an unexpected one's inside."""
    match error:
        case ApiError():
            return error
        case RequestTooLongError():
            return ApiError(400, str(error), code="context_length_exceeded", param="prompt")
        case RequestError():
            return ApiError(400, str(error))
        case OverloadedError():
            return ApiError(503, str(error), code="overloaded", retry_after=RETRY_AFTER_SECONDS)
        case NoRoomError():
            return ApiError(503, str(error), code="no_room", retry_after=RETRY_AFTER_SECONDS)
        case DrainingError():
            return ApiError(503, str(error), code="draining", retry_after=RETRY_AFTER_SECONDS)
        case WrongRoleError():
            return ApiError(503, str(error), code="wrong_role")
        case EngineDeadError():
            return ApiError(503, str(error), code="engine_dead")
        case TransferError():
            return ApiError(502, f"the hand-over failed: {error.reason}: {error}", code=f"kv_{error.reason}")
        case TimeoutError():
            return ApiError(504, "the engine gave no answer in time", code="timeout")
        case WorkerError():
            return ApiError(500, str(error), code="worker_error")
    return ApiError(500, "internal error, see the worker's log", code="internal_error")


@web.middleware
async def error_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Nothing but the OpenAI shape leaves as an error, wherever it was raised."""
    try:
        return await handler(request)
    except web.HTTPRequestEntityTooLarge as error:
        limit = request.client_max_size
        logger.info("refused a body over %d bytes", limit)
        message = f"the body is larger than the limit of {limit} bytes"
        return ApiError(error.status, message, code="request_too_large").response()
    except web.HTTPException as error:
        if error.status < HTTPStatus.BAD_REQUEST:
            raise
        return ApiError(error.status, f"{request.method} {request.path}: {error.reason}").response()
    except ConnectionError:
        raise  # the client is gone: aiohttp closes what is left
    except Exception as error:
        api_error = to_api_error(error)
        if api_error.status == HTTPStatus.INTERNAL_SERVER_ERROR:
            logger.exception("a request failed")
        return api_error.response()
