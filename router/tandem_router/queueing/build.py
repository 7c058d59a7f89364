"""A scheduler from settings."""

from collections.abc import Mapping

from tandem_router.durations import parse_duration
from tandem_router.loads import LoadBook
from tandem_router.queueing.capacity import Capacity, Limits
from tandem_router.queueing.congestion import CongestionLimits
from tandem_router.queueing.fair import TenantCounters, TokenWeights
from tandem_router.queueing.fences import Fence, ShortPromptWorkers, UrgentWorkers
from tandem_router.queueing.offline import OfflineBudget
from tandem_router.queueing.order import aged, by_arrival, by_slack
from tandem_router.queueing.policy import QueuePolicy
from tandem_router.queueing.programs import Programs
from tandem_router.queueing.scheduler import Choose, Predict, Scheduler
from tandem_router.queueing.state import Bounds
from tandem_router.queueing.tiers import Tier, tiers
from tandem_router.types import Report
from tandem_wire.router_settings import Agents, Queueing, RouterSettings

JUST_ENOUGH_MARGIN = 0.9
"""Lengths are imprecise: so many answers have to be covered by what is expected of them."""


def scheduler(
    settings: RouterSettings,
    choose: Choose,
    loads: LoadBook,
    reports: Mapping[str, Report],
    *,
    default: Tier,
    predict: Predict = lambda _info, _choice: None,
) -> Scheduler:
    """`loads` is kept in step with what runs; `choose` is the pipeline that looks at it.

    `default`: the tier of requests that name no class, unless a class has its name.
    """
    queueing = settings.queueing
    known = tiers(settings.classes, default)
    limits = Limits(parse_duration(queueing.prefill_ahead), queueing.decodes, queueing.kv_used)
    bounds = Bounds(queueing.max_waiting, queueing.max_waiting_bytes, parse_duration(queueing.pod_start))
    return Scheduler(
        choose,
        Capacity(limits, loads, reports),
        known,
        bounds=bounds,
        policy=_policy(queueing, known),
        predict=predict,
    )


def _policy(queueing: Queueing, known: Mapping[str, Tier]) -> QueuePolicy:
    order = by_arrival if queueing.order == "arrival" else by_slack
    just_enough = queueing.order == "just-enough"
    fair = queueing.fairness
    return QueuePolicy(
        order=aged(order, parse_duration(queueing.ageing)),
        just_enough=just_enough,
        margin=JUST_ENOUGH_MARGIN if just_enough else 0.5,
        fair=TenantCounters(TokenWeights(fair.prompt_weight, fair.output_weight)) if fair else None,
        programs=Programs() if queueing.programs or queueing.agents else None,
        keep_place=queueing.programs,
        congestion=_congestion(queueing.agents) if queueing.agents else None,
        fences=_fences(queueing),
        offline=_offline(queueing, known),
    )


def _congestion(agents: Agents) -> CongestionLimits:
    return CongestionLimits(agents.least, agents.most, agents.high_kv, agents.low_hit, agents.decrease)


def _fences(queueing: Queueing) -> tuple[Fence, ...]:
    fences: list[Fence] = []
    if queueing.lanes is not None:
        fences.append(ShortPromptWorkers(queueing.lanes.long_tokens, queueing.lanes.short_share))
    if queueing.urgent is not None:
        fences.append(UrgentWorkers(queueing.urgent.share, queueing.urgent.slack))
    return tuple(fences)


def _offline(queueing: Queueing, known: Mapping[str, Tier]) -> OfflineBudget:
    online = [tier.tpot for tier in known.values() if tier.tpot is not None and not tier.offline]
    return OfflineBudget(
        seconds=parse_duration(queueing.offline.budget),
        decodes=max(1, int(queueing.decodes * queueing.offline.decode_share)),
        tpot=min(online, default=None),
    )
