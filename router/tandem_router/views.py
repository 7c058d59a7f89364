"""What this router knows, put together for one request: the View that policies see."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tandem_router.loads import LoadBook
from tandem_router.memory import SentPrefixes
from tandem_router.policies import Predictor, View
from tandem_router.types import Choice, Report, RequestInfo


@dataclass(slots=True)
class Views:
    """`reports` and `ejected` are kept by those who watch the workers; `predictor` is the latency model."""

    loads: LoadBook = field(default_factory=LoadBook)
    reports: Mapping[str, Report] = field(default_factory=dict)
    ejected: frozenset[str] = frozenset()
    predictor: Predictor | None = None
    memory: SentPrefixes = field(default_factory=SentPrefixes)

    def of(self, request: RequestInfo) -> View:
        """What is known now. Its mappings go on changing: use it at once."""
        matches = self.memory.match(request) if request.prefix else {}
        return View(self.loads, self.reports, matches, self.ejected, self.predictor)

    def sent(self, request: RequestInfo, choice: Choice) -> None:
        """The request goes to these workers: they will have its prompt cached."""
        if request.prefix:
            if choice.prefill is not None:
                self.memory.sent(request.prefix, choice.prefill.name)
            self.memory.sent(request.prefix, choice.decode.name)
