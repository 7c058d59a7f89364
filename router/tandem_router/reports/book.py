"""The newest report of each worker. Pure."""

from collections.abc import Iterable
from dataclasses import replace

from tandem_router.types import Report


class ReportBook(dict[str, Report]):
    """Worker -> its report. `draining` are those that say that they take no more."""

    def __init__(self) -> None:
        super().__init__()
        self.draining: frozenset[str] = frozenset()
        self._heard: dict[str, float] = {}

    def heard(self, worker: str, report: Report, now: float) -> None:
        self[worker] = report
        self._heard[worker] = now
        if report.draining != (worker in self.draining):
            self.draining ^= {worker}

    def age(self, worker: str, now: float, limit: float) -> None:
        """Marks a report that is older than `limit` seconds as stale."""
        report = self.get(worker)
        if report is not None and report.fresh and now - self._heard[worker] > limit:
            self[worker] = replace(report, fresh=False)

    def keep(self, workers: Iterable[str]) -> None:
        """Forgets all others."""
        for worker in self.keys() - set(workers):
            del self[worker], self._heard[worker]
            self.draining -= {worker}
