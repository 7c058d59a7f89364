"""Tandem's own worker: it replays the tokens that it is given, so every stream goes on exactly.

Positions of seeded draws, penalties, stop strings, half characters and usage are as if it had begun itself.
"""

from tandem_router.continuation.base import COMPLETION_TOKENS, Continuation, NotExactError, Rest, less
from tandem_router.continuation.emitted import Given, Plan
from tandem_router.continuation.joint import Joint
from tandem_router.json_body import Member, new_members
from tandem_router.openai import Api, ParsedRequest


class Native(Continuation):
    def plan(self, parsed: ParsedRequest, given: Given) -> Plan:
        if not given.output:
            raise NotExactError("no_token_ids")
        return Plan(given.prompt, given.output)

    def rest(self, parsed: ParsedRequest, plan: Plan, given: Given, room: int | None) -> Rest:
        body, done = parsed.body, plan.num_output
        default = COMPLETION_TOKENS if parsed.api is Api.COMPLETION else None
        limits = {
            "max_tokens": less(body, "max_tokens", done, default),
            "max_completion_tokens": less(body, "max_completion_tokens", done),
        }
        members = new_members({key: limit for key, limit in limits.items() if limit is not None})
        resume = b'{"prompt_token_ids":[%b],"token_ids":[%b]}' % (plan.prompt, plan.output)
        members["resume"] = Member(resume, None)
        return Rest(parsed.api, body.with_members(members), Joint(given.head))
