"""What this router knows, put together for one request: the View that policies see."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tandem_router.kv_index import KvIndex
from tandem_router.kv_keys import root_key
from tandem_router.loads import LoadBook
from tandem_router.memory import SentPrefixes
from tandem_router.policies import Predictor, View
from tandem_router.reports.book import ReportBook
from tandem_router.types import Choice, RequestInfo

_SAME_MOMENT = 0.001


@dataclass(slots=True)
class Views:
    """`reports`, `ejected` and `index` are kept by those who watch the workers.

    Where a prompt is cached is known from `index` for workers that tell, else from what was sent to them.
    """

    loads: LoadBook = field(default_factory=LoadBook)
    reports: ReportBook = field(default_factory=ReportBook)
    ejected: Callable[[], frozenset[str]] = frozenset
    predictor: Predictor | None = None
    memory: SentPrefixes = field(default_factory=SentPrefixes)
    index: KvIndex | None = None
    clock: Callable[[], float] = time.monotonic
    _asked: tuple[RequestInfo, float, Mapping[str, int]] | None = None

    def of(self, request: RequestInfo) -> View:
        """What is known now. Its mappings go on changing: use it at once."""
        ejected, draining = self.ejected(), self.reports.draining
        if draining:
            ejected |= draining
        return View(self.loads, self.reports, self._matches(request), ejected, self.predictor)

    def sent(self, request: RequestInfo, choice: Choice) -> None:
        """The request goes to these workers: they will have its prompt cached."""
        names = {choice.decode.name} if choice.prefill is None else {choice.prefill.name, choice.decode.name}
        for name in names:
            if request.prefix:
                self.memory.sent(request.prefix, name)
            if self.index is not None and request.token_ids:
                root = root_key(request.model, request.adapter)
                self.index.expect(name, request.token_ids, root, request.salt, self.clock())

    def _matches(self, request: RequestInfo) -> Mapping[str, int]:
        """One decision asks several times: what was found a moment ago still holds."""
        if not request.prefix and not request.token_ids:
            return {}
        now, asked = self.clock(), self._asked
        if asked is None or asked[0] is not request or now - asked[1] > _SAME_MOMENT:
            asked = self._asked = request, now, self._found(request)
        return asked[2]

    def _found(self, request: RequestInfo) -> Mapping[str, int]:
        sent = self.memory.match(request) if request.prefix else {}
        index = self.index
        if index is None or not request.token_ids:
            return sent
        root = root_key(request.model, request.adapter)
        told = index.match(request.token_ids, root, request.salt, self.clock())
        return {name: tokens for name, tokens in sent.items() if not index.covers(name)} | told
