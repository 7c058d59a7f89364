"""What the end of a request teaches: lengths of answers, tenants' shares, sessions, congestion."""

from tandem_router.queueing.decisions import Served
from tandem_router.queueing.policy import QueuePolicy
from tandem_router.queueing.state import Model, Running


def learn(
    policy: QueuePolicy, model: Model, running: Running, served: Served, now: float, kv_used: float | None
) -> None:
    """A request is over at `now`; `kv_used` is the share of KV in use then, if it is known."""
    waiting = running.waiting
    info = waiting.info
    if served.output_tokens:
        seconds = None if running.first_token is None else now - running.first_token
        model.estimates.answered(info, served.output_tokens, seconds)
    if policy.fair is not None:
        policy.fair.charge(info.tenant, 0, served.output_tokens - waiting.charged)
    if not info.session or policy.programs is None:
        return
    policy.programs.ended(info.session, now)
    if model.congestion is not None:
        model.congestion.ended(info.session, policy.programs.expiry(info.session))
        hit = served.cached_share if waiting.later_call else None
        model.congestion.signal(now, hit=hit, kv_used=kv_used)
