"""Waiting for what only polling shows."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(read: Callable[[], T], wanted: Callable[[T], bool], timeout: float = 10.0) -> T:
    """Read until the value is as wanted or `timeout` seconds passed; the last value."""
    deadline = time.monotonic() + timeout
    while not wanted(value := read()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return value
