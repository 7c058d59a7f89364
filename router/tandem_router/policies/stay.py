"""When one worker does both phases although a hand-over is possible."""

from tandem_router.policies import Scored, View
from tandem_router.types import Pair, RequestInfo

SHORT_PROMPT_TOKENS = 256
"""Below this a mixed worker takes the request whole: the hand-over costs more than it saves."""


class ShortPrompts:
    """Short prompts stay on a mixed worker, and what it has more room for than any pair."""

    def local(
        self, request: RequestInfo, handover: Scored, mixed: Scored | None, _view: View, /
    ) -> tuple[Pair, str] | None:
        if mixed is None:
            return None
        if request.prompt_tokens < SHORT_PROMPT_TOKENS:
            return mixed.pair, "short_prompt"
        return (mixed.pair, "less_loaded") if mixed.score > handover.score else None
