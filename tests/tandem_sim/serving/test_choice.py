"""The default policies serve more than choice by load alone where prompts begin alike."""

from dataclasses import replace
from random import Random

from tandem_router.policies import registry
from tandem_sim.serving.calls import Shape, poisson
from tandem_sim.serving.experiments import fleet
from tandem_sim.serving.fleet import run

SHARED = Shape(prompt_tokens=4000, output_tokens=60, shared=3072, prefixes=200)


def test_cached_prefixes_make_room_for_more_requests() -> None:
    """200 beginnings of 3,072 tokens: more than one worker keeps, less than all do."""
    service = fleet(3, 3)
    pools = tuple(replace(pool, machine=replace(pool.machine, kv_tokens=250_000)) for pool in service.pools)
    load = poisson(55, 12, SHARED, Random(1))
    by_load = registry.build([], ["least-loaded"], "best")
    attained = {
        name: run(replace(service, pools=pools, policy=policy), load).attainment()
        for name, policy in (("load", by_load), ("default", registry.DEFAULT))
    }
    assert attained["default"] > attained["load"] + 0.07, attained
