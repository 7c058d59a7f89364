"""Loads engine and tokenizer beside the event loop."""

import asyncio
import logging
from dataclasses import dataclass
from threading import Thread

from tandem_worker.engine import Engine
from tandem_worker.errors import CheckpointError
from tandem_worker.settings import WorkerSettings
from tandem_worker.tokenizer import Tokenizer, byte_tokenizer, load_tokenizer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loaded:
    engine: Engine
    tokenizer: Tokenizer
    device: str


def load(settings: WorkerSettings) -> Loaded:
    """Raises `CheckpointError` or `ConfigError`. Random weights without a tokenizer read bytes."""
    import torch

    from tandem_worker.loader import load_engine
    from tandem_worker.warm_up import warm_up

    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    config = settings.engine
    if not config.model.is_dir():
        raise CheckpointError(f"{config.model} is not a folder: --model names a checkpoint's")
    has_tokenizer = (config.model / "tokenizer.json").is_file()
    tokenizer = (
        load_tokenizer(config.model) if has_tokenizer or not config.random_weights else byte_tokenizer()
    )
    engine = load_engine(config)
    warm_up(engine)
    device = "cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu"
    return Loaded(engine, tokenizer, device)


def start_loading(settings: WorkerSettings) -> asyncio.Future[Loaded]:
    """On a daemon thread, so that a process that is told to end need not wait for it."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Loaded] = loop.create_future()

    def settle(result: Loaded | Exception) -> None:
        if future.done():
            return
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)

    def run() -> None:
        result: Loaded | Exception
        try:
            result = load(settings)
        except Exception as error:
            result = error
        try:
            loop.call_soon_threadsafe(settle, result)
        except RuntimeError:
            logger.debug("the process has ended before the model was loaded")

    Thread(target=run, name="load", daemon=True).start()
    return future
