"""Doing something again and again while it fails, less and less often."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

FIRST_SECONDS, LONGEST_SECONDS = 0.5, 30.0
STEADY_SECONDS = 60.0
"""What ran for so long before it failed is tried again soon."""

_log = logging.getLogger(__name__)


async def keep_up(
    attempt: Callable[[], Awaitable[None]],
    failed: Callable[[], None],
    expected: tuple[type[Exception], ...],
    name: str,
) -> None:
    """Runs `attempt` until cancelled; each time it ends or fails as expected, calls `failed` and waits."""
    clock = asyncio.get_running_loop().time
    pause = FIRST_SECONDS
    while True:
        started = clock()
        try:
            await attempt()
            reason = "it ended"
        except expected as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        failed()
        pause = FIRST_SECONDS if clock() - started > STEADY_SECONDS else min(2 * pause, LONGEST_SECONDS)
        level = logging.WARNING if pause < 4 * FIRST_SECONDS else logging.DEBUG
        _log.log(level, "%s failed, again in %.1f s: %s", name, pause, reason)
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, guards nothing
