"""The policies of one queue, as the scheduler takes them."""

from dataclasses import dataclass

from tandem_router.queueing.congestion import CongestionLimits
from tandem_router.queueing.fair import TenantCounters
from tandem_router.queueing.fences import Fence
from tandem_router.queueing.offline import OfflineBudget
from tandem_router.queueing.order import Order, aged, by_slack
from tandem_router.queueing.programs import Programs

_DEFAULT_ORDER = aged(by_slack, 10.0)
_DEFAULT_OFFLINE = OfflineBudget(seconds=0.1, decodes=64)


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """None and empty is off. `margin`: the share of answers that the expected length has to cover.

    `keep_place`: a session's next call keeps the place of its first; that and `congestion` need `programs`.
    """

    order: Order = _DEFAULT_ORDER
    just_enough: bool = False
    margin: float = 0.5
    fair: TenantCounters | None = None
    programs: Programs | None = None
    keep_place: bool = False
    congestion: CongestionLimits | None = None
    fences: tuple[Fence, ...] = ()
    offline: OfflineBudget = _DEFAULT_OFFLINE
