"""How long the router thinks about one request: its own `decide`, with all that it can know of the workers.

    python -m tandem_bench.router.decision

Prints JSON: policy -> workers -> median us.
"""

import json
from random import Random
from statistics import median
from time import monotonic, perf_counter_ns

from tandem_perf.profile import shipped
from tandem_router.candidates import candidates
from tandem_router.pipeline import decide
from tandem_router.policies import View
from tandem_router.policies.registry import BUILT_IN, DEFAULT, Policy, build, make
from tandem_router.predict.forecaster import Forecaster
from tandem_router.predict.models import Seed
from tandem_router.types import Endpoint, Load, Report, RequestInfo, Role

SIZES = (4, 16, 100, 1000)
"""Workers, half of them for prefill."""
WARM_UP, DECISIONS = 50, 400
PREFIX_BLOCKS, PREFIX_OWNERS = 12, 8


def decision_times(sizes: tuple[int, ...] = SIZES) -> dict[str, dict[str, float]]:
    """Policy -> workers -> median us of a decision."""
    policies = {"default policies": DEFAULT, "every scorer": _every_scorer()}
    return {
        name: {str(size): _median_us(policy, size) for size in sizes} for name, policy in policies.items()
    }


def _every_scorer() -> Policy:
    return build((), [name for name in BUILT_IN if hasattr(make(name), "score")], "best")


def _median_us(policy: Policy, workers: int) -> float:
    rng = Random(workers)
    endpoints = [_endpoint(number, workers) for number in range(workers)]
    found, view = candidates(endpoints, "mock"), _view(endpoints, rng)
    times = []
    for number in range(WARM_UP + DECISIONS):
        request = _request(number, rng)
        begin = perf_counter_ns()
        decide(request, found, view, rng, policy=policy)
        times.append(perf_counter_ns() - begin)
    return round(median(times[WARM_UP:]) / 1000, 1)


def _request(number: int, rng: Random) -> RequestInfo:
    prefix = tuple(rng.getrandbits(32) for _ in range(PREFIX_BLOCKS))
    return RequestInfo(
        f"request-{number}",
        "mock",
        prompt_tokens=2000,
        stream=True,
        session=f"session-{number % 50}",
        prefix=prefix,
    )


def _view(endpoints: list[Endpoint], rng: Random) -> View:
    """Busy workers, all of which report; some have a part of the prompt."""
    return View(
        loads={e.name: Load(rng.randrange(1, 30), rng.randrange(100_000)) for e in endpoints},
        reports={
            e.name: Report(rng.randrange(30), rng.randrange(3), rng.randrange(9000), rng.random(), 500_000)
            for e in endpoints
        },
        matches={e.name: 1024 for e in rng.sample(endpoints, min(PREFIX_OWNERS, len(endpoints)))},
        predictor=Forecaster(monotonic, seeds=[Seed(shipped()[0])]),
    )


def _endpoint(number: int, workers: int) -> Endpoint:
    role = Role.PREFILL if number < workers // 2 else Role.DECODE
    return Endpoint(
        name=f"{role}-{number}",
        address="127.0.0.1",
        port=1 + number,
        role=role,
        pool=role,
        engine="vllm",
        model="mock",
        revision="1",
        topology=f"rack-{number % 8}",
    )


if __name__ == "__main__":
    print(json.dumps(decision_times()))
