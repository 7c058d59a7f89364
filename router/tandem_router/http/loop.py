"""The event loop: uvloop where there is one, which costs half as much; asyncio's own elsewhere."""

import asyncio
import gc
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_log = logging.getLogger(__name__)


def new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        _log.warning("uvloop is not installed: requests will cost more")
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _calm_collector() -> None:
    """Lets what was imported be, and looks for garbage seldom: a request leaves none that is in cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def run(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, on the best loop."""
    _calm_collector()
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main)
