"""What can go wrong in a worker, by who must act: who runs it, the client, or the other worker."""


class WorkerError(Exception):
    """Base of all errors of the worker. The message is one line for a user."""


class ConfigError(WorkerError):
    """The worker was started with impossible settings."""


class CheckpointError(WorkerError):
    """The checkpoint cannot be served. The message says what is wrong, where, and what to do."""


class RequestError(WorkerError):
    """The request can never run here: the client must change it."""


class InvalidRequestError(RequestError):
    """A malformed request: empty prompt, unknown token id, impossible sampling parameter."""


class RequestTooLongError(RequestError):
    """Prompt and one new token do not fit the model's length (which the KV cache may cut)."""


class DuplicateRequestError(RequestError):
    """A request with this id is here already."""


class UnknownRequestError(WorkerError):
    """No such import or held KV: finished, cancelled or never begun."""


class KvDataError(WorkerError):
    """KV bytes that do not have the size of the blocks they are meant for."""
