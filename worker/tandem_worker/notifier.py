"""Wakes everybody who waits for "something has changed"."""

import asyncio


class Notifier:
    """Take a ticket, look at the state, and wait for the ticket when the state is not yet as wanted.

    A change between the look and the wait is not missed.
    """

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ticket(self) -> asyncio.Event:
        """Set at the next change after this call."""
        return self._event

    def notify(self) -> None:
        self._event.set()
        self._event = asyncio.Event()
