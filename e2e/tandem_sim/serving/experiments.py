"""Questions to the simulated service, and fleets to ask: what tests assert and `python -m` prints."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random

from tandem_perf.latency import DecodeModel, LatencyModel, PrefillModel, TransferModel
from tandem_perf.profile import Profile, load
from tandem_router.disaggregation import Disaggregate, Mode
from tandem_router.policies.pick import Best
from tandem_router.policies.predicted import PredictedLatency
from tandem_router.policies.registry import Policy
from tandem_router.types import Objective, Role
from tandem_sim.serving.calls import Load, Shape, poisson
from tandem_sim.serving.fleet import run
from tandem_sim.serving.machine import Machine
from tandem_sim.serving.outcome import Report
from tandem_sim.serving.service import Pool, Service

BELIEVED = "llama-3.1-8b/h200/tp1/bfloat16"
CHAT = Objective(ttft=0.5, tpot=0.025)


def drift(now: float) -> float:
    """Speeds that go up and down by 15 % in half an hour."""
    return 1 + 0.15 * math.sin(now / 300)


def real(profile: Profile) -> LatencyModel:
    """Workers as they turn out: 30 % slower than their profile, with time per step for the engine itself, and
    one NIC instead of eight."""
    prefill, decode = profile.latency.prefill, profile.latency.decode
    return LatencyModel(
        PrefillModel(prefill.a + 0.003, 1.3 * prefill.b, 1.3 * prefill.c),
        DecodeModel(decode.a + 0.002, 1.3 * decode.b, 1.2 * decode.c),
        TransferModel(0.003, 12e9),
    )


def by_prediction(mode: Mode = "auto") -> Policy:
    """Workers by predicted latency, hand-overs by `mode`."""
    return Policy(
        (), ((PredictedLatency(), 1.0),), Best(), stay=Disaggregate(mode), handovers=mode != "never"
    )


def fleet(prefills: int, decodes: int, *, mixed: int = 0, objective: Objective = CHAT) -> Service:
    """H200s with a Llama of 8B parameters that are not as their profile says, and whose speed drifts."""
    profile = load(BELIEVED)
    machine = Machine(real(profile), kv_bytes_per_token=profile.kv_bytes_per_token, drift=drift)
    sizes = ((Role.PREFILL, prefills), (Role.DECODE, decodes), (Role.MIXED, mixed))
    pools = tuple(Pool(role, count, machine) for role, count in sizes if count)
    return Service(pools, objective, policy=by_prediction(), profile=profile)


def chat(rate: float, seconds: float, seed: int = 1) -> Load:
    """Poisson arrivals of conversations' turns."""
    return poisson(rate, seconds, Shape(prompt_tokens=1200, output_tokens=200), Random(seed))


@dataclass(frozen=True, slots=True)
class Overload:
    """Goodput at multiples of a base rate, and the longest wait of a refused call over its objective."""

    goodputs: Mapping[float, float]
    latest_refusal: float

    def kept(self, factor: float) -> float:
        """Goodput at `factor`, as a share of the best at any factor."""
        return self.goodputs[factor] / max(self.goodputs.values())


def overload(service: Service, load_at_one: Load, factors: tuple[float, ...]) -> Overload:
    """Each factor on a new fleet."""
    reports = {factor: run(service, load_at_one.faster(factor)) for factor in factors}
    waits = [
        (o.refused_at - o.arrived) / service.objective.ttft
        for report in reports.values()
        for o in report.outcomes
        if o.refused
    ]
    return Overload({f: r.goodput() for f, r in reports.items()}, max(waits, default=0.0))


def replicas(service: Service, offered: Load, doors: tuple[int, ...] = (1, 2)) -> dict[int, Report]:
    """The same load through one router, and through several that share nothing."""
    return {count: run(replace(service, doors=count), offered) for count in doors}


def modes(service: Service, offered: Load) -> dict[Mode, Report]:
    """The same load with hand-overs where they cost less, always, and never."""
    known: tuple[Mode, ...] = ("auto", "always", "never")
    return {mode: run(replace(service, policy=by_prediction(mode)), offered) for mode in known}
