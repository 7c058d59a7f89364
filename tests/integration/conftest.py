"""What routers do is tested on the loop that they run on in production."""

import asyncio
from collections.abc import Callable

import pytest

from tandem_router.http.loop import new_loop


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    router = item.path.name.startswith("test_router_")
    return {"uvloop": new_loop} if router else {"asyncio": asyncio.new_event_loop}
