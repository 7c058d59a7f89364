"""Keeps what a request's stream needs to go on at another worker, and says what workers are asked for."""

from collections.abc import Awaitable, Callable
from copy import copy
from dataclasses import replace

from tandem_router.continuation import continuation_of
from tandem_router.continuation.base import ASK, Continuation, NotExactError
from tandem_router.continuation.emitted import Emitted, Given, Plan, count_ids
from tandem_router.continuation.joint import Joint, closing
from tandem_router.continuation.reader import ResumableReader
from tandem_router.openai import Api, ParsedRequest
from tandem_router.sse import EventReader

RoomOf = Callable[[], Awaitable[int | None]]
"""Asks a worker how many tokens prompt and output may have together."""


class Rescue:
    """One request. `asked` is what workers are asked for now: the request, or the rest of its answer.

    Nothing is kept of whole answers, or while `enabled` is not set.
    """

    __slots__ = ("_continuation", "_enabled", "_given", "_joint", "_parsed", "_plan", "_reader", "asked")

    def __init__(self, parsed: ParsedRequest, *, enabled: bool) -> None:
        self._parsed = self.asked = parsed
        self._enabled = enabled and parsed.info.stream
        self._continuation: Continuation | None = None
        self._reader: EventReader | None = None
        self._plan: Plan | None = None
        self._given: Given | None = None
        self._joint: Joint | None = None

    @property
    def resuming(self) -> bool:
        """Whether workers are asked for the rest of an answer."""
        return self._plan is not None

    def takes(self, engine: str) -> bool:
        """Whether a worker of this engine can be asked: for a rest, only one that writes the same tokens."""
        return self._plan is None or continuation_of(engine) is self._continuation

    def decode_leg(self, engine: str) -> tuple[ParsedRequest, EventReader]:
        """What the worker is asked for, and how its stream is read."""
        parsed, drop_usage = self._parsed, not self._parsed.wants_usage
        continuation = continuation_of(engine) if self._enabled else None
        self._continuation = continuation
        if continuation is None or not continuation.can_ask(parsed):
            self._reader = EventReader(drop_usage=drop_usage)
            return self.asked, self._reader
        shows_ids = bool(parsed.body.get("return_token_ids"))
        head = self._given.head if self._given is not None else None
        self._reader = ResumableReader(
            drop_usage=drop_usage,
            shows_ids=shows_ids,
            emitted=Emitted(self._plan, head),
            joint=copy(self._joint),  # an attempt that fails may have used some of it
        )
        if shows_ids:
            return self.asked, self._reader
        return replace(self.asked, body=self.asked.body.with_members(ASK)), self._reader

    def ending(self) -> bytes | None:
        """What the client lacks of a stream that broke off after its last token; None: tokens are missing."""
        given = self._given_now()
        if given is None or not given.finished or self._reader is None:
            return None
        parsed, usage = self._parsed, None
        if parsed.wants_usage and self._reader.usage is None:
            usage = count_ids(given.prompt), given.num_output
        return closing(given.head, chat=parsed.api is Api.CHAT, model=parsed.info.model, usage=usage)

    async def plan(self, room_of: RoomOf) -> str | None:
        """Prepares to ask for the rest; why that is not possible, in one word, if it is not."""
        if not self._enabled:
            return "off"
        continuation, given = self._continuation, self._given_now()
        if continuation is None:
            return "engine"
        if given is None:
            return "several_choices" if self._parsed.features else "no_token_ids"
        try:
            plan = continuation.plan(self._parsed, given)
            room = await room_of() if continuation.needs_room(self._parsed) else None
            rest = continuation.rest(self._parsed, plan, given, room)
        except NotExactError as error:
            return str(error)
        self._plan, self._given, self._joint = plan, given, rest.joint
        prompt_tokens = count_ids(plan.prompt) + plan.num_output
        info = replace(self._parsed.info, prompt_tokens=prompt_tokens)
        self.asked = replace(self._parsed, api=rest.api, body=rest.body, info=info)
        return None

    def _given_now(self) -> Given | None:
        return self._reader.emitted.given() if isinstance(self._reader, ResumableReader) else None
