"""The native worker's load arrives by itself, and goes stale when the worker is gone."""

import asyncio
from typing import Any

from tandem_router.reports.book import ReportBook
from tandem_router.reports.watcher import ReportWatcher
from tandem_router.types import Endpoint, Role


async def test_the_native_stream(start_worker: Any) -> None:
    worker = await start_worker(engine={"block_size": 4})
    port = int(worker.kv_address.rpartition(":")[2])
    book, news = ReportBook(), asyncio.Event()

    async def scrape(_endpoint: Endpoint) -> bytes:
        raise AssertionError("a worker with a stream is not scraped")

    watcher = ReportWatcher(book, scrape, asyncio.get_running_loop().time, news.set)
    watcher.know([Endpoint("w", "127.0.0.1", 1, Role.DECODE, "d", "native", "m", "1", kv_port=port)])
    async with asyncio.timeout(10):
        await news.wait()
        report = book["w"]
        assert (report.running, report.waiting, report.draining, report.fresh) == (0, 0, False, True)
        assert report.kv_tokens == worker.worker.num_blocks * 4
        drained = asyncio.ensure_future(worker.worker.drain(5.0))
        while not book["w"].draining:
            news.clear()
            await news.wait()
        assert book.draining == {"w"}
        await drained
    await watcher.close()
