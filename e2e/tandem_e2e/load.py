"""Steady load in the background; every failed or wrong answer counts."""

import asyncio
import itertools
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import aiohttp

from tandem_e2e.client import TIMEOUT, ask, chat


@dataclass(slots=True)
class Tally:
    """What became of the requests so far. Times are seconds of time.monotonic()."""

    answered: int = 0
    wrong: list[str] = field(default_factory=list)
    failed: list[tuple[float, str]] = field(default_factory=list)
    decoders: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        slow = sorted(self.seconds)[int(len(self.seconds) * 0.95)] if self.seconds else 0.0
        counts = f"{self.answered} right, {len(self.wrong)} wrong, {len(self.failed)} failed"
        return f"{counts}, p95 {slow:.2f} s"


class Load:
    """`clients` closed-loop clients that ask streamed chat questions whose right texts are known."""

    def __init__(self, url: str, expected: Mapping[str, str], clients: int, pause: float = 0.0) -> None:
        """`expected`: prompt -> text; `pause`: seconds between a client's requests."""
        self.tally = Tally()
        self._url = url
        self._expected = expected
        self._clients = clients
        self._pause = pause
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(TIMEOUT.total)

    async def _all(self) -> None:
        prompts = list(self._expected)
        async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
            await asyncio.gather(*(self._client(session, prompts, n) for n in range(self._clients)))

    async def _client(self, session: aiohttp.ClientSession, prompts: list[str], number: int) -> None:
        for prompt in itertools.cycle(prompts[number % len(prompts) :] + prompts[: number % len(prompts)]):
            if self._stop.is_set():
                return
            await self._one(session, prompt)
            await asyncio.sleep(self._pause)

    async def _one(self, session: aiohttp.ClientSession, prompt: str) -> None:
        answer = await ask(session, self._url, chat(prompt))
        if answer.error is not None:
            self.tally.failed.append((time.monotonic(), answer.error))
            await asyncio.sleep(0.2)  # a dead router must not turn the loop into a flood
        elif answer.text != self._expected[prompt]:
            self.tally.wrong.append(f"{answer.text!r} instead of {self._expected[prompt]!r}")
        else:
            self.tally.answered += 1
            self.tally.seconds.append(answer.seconds)
            self.tally.decoders[answer.headers.get("x-tandem-decode", "")] += 1
