"""What all requests share: connections, workers, load, policy, metrics."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from random import Random, getrandbits

from tandem_router.access.desk import Desk
from tandem_router.admission import Admission
from tandem_router.config import RouterConfig
from tandem_router.directory import Directory
from tandem_router.engines import ENGINES
from tandem_router.engines.base import Engine
from tandem_router.gate import Gate
from tandem_router.health_watch import HealthWatch
from tandem_router.hedging import Hedger
from tandem_router.http.upstream import Upstreams
from tandem_router.loads import LoadBook
from tandem_router.metrics import RouterMetrics
from tandem_router.peers import Peers
from tandem_router.pipeline import decide
from tandem_router.policies.registry import DEFAULT, Policy
from tandem_router.predict.build import forecaster
from tandem_router.predict.forecaster import Forecaster
from tandem_router.queueing.build import scheduler
from tandem_router.queueing.tiers import Tier, tiers
from tandem_router.release import KvReleaser
from tandem_router.types import Choice, Constraint, NoChoice, Pair, Prediction, RequestInfo
from tandem_router.views import Views
from tandem_router.watchers import Watchers

Clock = Callable[[], float]
"""Seconds since the same moment as the loop's time, but finer."""


def _new_id() -> str:
    return f"{getrandbits(128):032x}"


@dataclass(slots=True)
class Runtime:
    """One router process. `rng` breaks ties; `new_id` makes request ids."""

    config: RouterConfig
    upstreams: Upstreams
    clock: Clock
    directory: Directory
    metrics: RouterMetrics
    releaser: KvReleaser
    admission: Admission
    peers: Peers
    health: HealthWatch
    engines: Mapping[str, Engine] = field(default_factory=lambda: ENGINES)
    policy: Policy = DEFAULT
    views: Views = field(default_factory=Views)
    rng: Random = field(default_factory=Random)
    new_id: Callable[[], str] = _new_id
    desk: Desk = field(default_factory=Desk)
    watchers: Watchers | None = None
    forecaster: Forecaster = field(init=False)
    gate: Gate = field(init=False)
    hedger: Hedger | None = field(init=False)

    def __post_init__(self) -> None:
        config = self.config
        default = Tier(ttft=config.slo_ttft, tpot=config.slo_tpot)
        classes = tiers(config.settings.classes, default)
        self.forecaster = forecaster(self.clock, classes, config.settings.prediction.profiles)
        self.views.predictor = self.forecaster
        hedge = config.settings.recovery.hedge
        self.hedger = None if hedge is None else Hedger(hedge)
        # A client that asked for no class is not refused for want of speed.
        self.gate = Gate(
            scheduler(
                config.settings,
                self._decide,
                self.loads,
                self.views.reports,
                default=replace(default, sheddable=False),
                predict=self._predict,
            )
        )

    def _decide(self, request: RequestInfo, constraint: Constraint) -> Choice | NoChoice:
        """The pipeline over the workers as they are now."""
        found, view = self.directory.candidates(request.model), self.views.of(request)
        return decide(request, found, view, self.rng, policy=self.policy, constraint=constraint)

    def _predict(self, request: RequestInfo, choice: Choice) -> Prediction | None:
        pair = Pair(choice.prefill, choice.decode)
        return self.forecaster.predict(request, pair, self.views.of(request))

    @property
    def loads(self) -> LoadBook:
        return self.views.loads
