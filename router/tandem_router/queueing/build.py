"""A scheduler from settings."""

from collections.abc import Mapping

from tandem_router.loads import LoadBook
from tandem_router.queueing.capacity import Capacity, Limits
from tandem_router.queueing.scheduler import Choose, Scheduler
from tandem_router.queueing.tiers import Tier, tiers
from tandem_router.types import Report
from tandem_wire.router_settings import RouterSettings


def scheduler(
    settings: RouterSettings,
    choose: Choose,
    loads: LoadBook,
    reports: Mapping[str, Report],
    *,
    default: Tier,
) -> Scheduler:
    """`loads` is kept in step with what runs; `choose` is the pipeline that looks at it."""
    return Scheduler(choose, Capacity(Limits(), loads, reports), tiers(settings.classes, default))
