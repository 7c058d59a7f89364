"""What is read from the samples, as data: each figure with its unit, its phase, and what it must reach."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import geometric_mean, median
from typing import Any

from tandem_bench.router.peers import DIRECT, TANDEM, TANDEM_TWICE
from tandem_bench.router.samples import Sample

Seen = dict[str, Any]
Values = dict[str, list[float]]
"""Peer -> its value in each repetition."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table.

    `read`: the value of one sample, or None. `over_direct`: what it is without a router is taken off.
    `must`, `aim`: what Tandem has to reach, in the same unit, on a machine where peers reached `then`.
    """

    name: str
    title: str
    unit: str
    phase: str
    read: Callable[[Seen], float | None]
    more_is_better: bool = False
    over_direct: bool = False
    must: float | None = None
    aim: float | None = None
    digits: int = 0
    then: Mapping[str, float] = field(default_factory=dict)


def _cpu_us_a_request(seen: Seen) -> float | None:
    return 1000 * seen["cpu"] / seen["requests"] if seen["cpu"] and seen["requests"] else None


def _cpu_ms_a_request(seen: Seen) -> float | None:
    us = _cpu_us_a_request(seen)
    return None if us is None else us / 1000


def _cpu_ms_a_thousand_chunks(seen: Seen) -> float | None:
    return 1000 * seen["cpu"] / seen["events"] if seen["cpu"] and seen["events"] else None


def _requests_a_second(seen: Seen) -> float | None:
    return seen["requests_per_s"] or None


def _ms(name: str, percentile: str) -> Callable[[Seen], float | None]:
    def read(seen: Seen) -> float | None:
        found = seen[name][percentile]
        return found / 1000 if found >= 0 else None

    return read


def _kb_a_stream(seen: Seen) -> float | None:
    streams = seen["with_first"]
    return (seen["rss_after"] - seen["rss_before"]) / streams if streams and seen["rss_before"] else None


def _grown_mb(seen: Seen) -> float | None:
    return (seen["rss_after"] - seen["rss_before"]) / 1024 if seen["rss_before"] else None


def _handed_over(seen: Seen) -> float | None:
    """Requests that a decode engine took over from a prefill engine, of 100 that any engine finished."""
    decode, regular = seen["engines"]["decode"], seen["engines"]["regular"]
    served = decode["requests"] + regular["requests"]
    return 100 * decode["handovers"] / served if served and decode["requests"] else None


def _told(*roles: str) -> Callable[[Seen], float | None]:
    return lambda seen: float(sum(seen["engines"][role]["aborts"] for role in roles))


FIGURES = (
    Figure("rps-256b", "requests/s, 64 clients, 256 B prompts", "", "256b", _requests_a_second,
           more_is_better=True, must=9_000, aim=18_000, then={"sglang-router": 10_096, "vllm-router": 9_096}),
    Figure("handed-over", "requests handed over, 256 B prompts", "%", "256b", _handed_over,
           more_is_better=True),
    Figure("cpu-256b", "CPU per request, 256 B prompts", "us", "256b", _cpu_us_a_request, must=110,
           aim=55, then={"sglang-router": 98, "vllm-router": 110}),
    Figure("rps-16kb", "requests/s, 64 clients, 16 KB prompts", "", "16kb", _requests_a_second,
           more_is_better=True, must=7_000, aim=14_000, then={"sglang-router": 7_701, "vllm-router": 6_767}),
    Figure("cpu-16kb", "CPU per request, 16 KB prompts", "us", "16kb", _cpu_us_a_request),
    Figure("cpu-1mib", "CPU per request, 1 MiB prompts", "ms", "1mib", _cpu_ms_a_request, must=10, digits=2),
    Figure("one-client", "added to a request of one client, p50", "ms", "one", _ms("latency", "p50"),
           over_direct=True, digits=2),
    Figure("chunks-50", "CPU per 1,000 streamed chunks, 50 streams", "ms", "streams-50",
           _cpu_ms_a_thousand_chunks, digits=1),
    Figure("chunks-200", "CPU per 1,000 streamed chunks, 200 streams", "ms", "streams-200",
           _cpu_ms_a_thousand_chunks, must=34, aim=29, digits=1,
           then={"sglang-router": 33.8, "vllm-router": 35.7}),
    Figure("chunks-500", "CPU per 1,000 streamed chunks, 500 streams", "ms", "streams-500",
           _cpu_ms_a_thousand_chunks, must=25, aim=22, digits=1,
           then={"sglang-router": 24.7, "vllm-router": 28.5}),
    Figure("chunks-steps", "CPU per 1,000 streamed chunks, 200 in engine steps", "ms", "steps-200",
           _cpu_ms_a_thousand_chunks, digits=1),
    Figure("first-200", "first token later than direct, 200 streams, p50", "ms", "streams-200",
           _ms("first", "p50"), over_direct=True, must=0.8, aim=0.3, digits=2),
    Figure("later-200", "each later token, added p99, 200 streams", "ms", "streams-200",
           _ms("transit", "p99"), over_direct=True, must=0.5, aim=0.2, digits=2),
    Figure("later-500", "each later token, added p99, 500 streams", "ms", "streams-500",
           _ms("transit", "p99"), over_direct=True, digits=2),
    Figure("later-steps", "each later token, added p99, 200 in engine steps", "ms", "steps-200",
           _ms("transit", "p99"), over_direct=True, digits=2),
    Figure("memory", "memory per idle stream", "KB", "idle", _kb_a_stream, must=32, aim=10, digits=1),
    Figure("left-decode", "of 1,000 clients that leave a silent stream, the engine hears within 2 s", "",
           "idle", _told("regular", "decode"), more_is_better=True, must=1000),
    Figure("left-prefill", "of 1,000 clients that leave during prefill, the prefill engine hears within 2 s",
           "", "leave-prefill", _told("prefill"), more_is_better=True, must=1000),
    Figure("slow", "memory grown in 3 s with 20 clients that do not read", "MB", "slow-readers", _grown_mb,
           must=20, digits=1),
)  # fmt: skip

SCALING = Figure(
    "scaling", "two processes on one port against one, 256 B prompts", "x", "256b", _requests_a_second,
    more_is_better=True, must=1.8, digits=2,
)  # fmt: skip


def values(figure: Figure, chosen: Mapping[tuple[str, str], Sequence[Sample]]) -> Values:
    """The figure for each peer that has samples of its phase."""
    read = {
        peer: [value for sample in samples if (value := figure.read(sample.seen)) is not None]
        for (peer, phase), samples in chosen.items()
        if phase == figure.phase and peer != TANDEM_TWICE.name
    }
    if figure.over_direct:
        floor = median(read[DIRECT.name]) if read.get(DIRECT.name) else 0.0
        read = {peer: [v - floor for v in found] for peer, found in read.items() if peer != DIRECT.name}
    return {peer: found for peer, found in read.items() if found}


def pace(figure: Figure, found: Values) -> float | None:
    """This figure here over what it was where `must` was set, by the peers measured at both places.

    None if there are none: then `must` holds as it stands.
    """
    ratios = [median(found[peer]) / value for peer, value in figure.then.items() if found.get(peer)]
    return geometric_mean(ratios) if ratios else None


def scaling(chosen: Mapping[tuple[str, str], Sequence[Sample]], cores: int) -> list[float]:
    """How much two processes do of what one does, for each sample of two.

    With four cores the requests are compared. With fewer, engines and load take from the routers': then it is
    what both processes' requests per CPU second come to on two free cores, the busier one being the limit.
    """
    one, two = chosen.get((TANDEM.name, "256b"), ()), chosen.get((TANDEM_TWICE.name, "256b"), ())
    if not one:
        return []
    if cores >= 4:
        base = median(sample.seen["requests_per_s"] for sample in one)
        return [sample.seen["requests_per_s"] / base for sample in two]
    base = median(sample.seen["requests"] / sample.seen["cpu"] for sample in one)
    return [s.seen["requests"] / s.seen["cpu"] * _evenness(s.seen["router_cpu_seconds"]) / base for s in two]


def _evenness(used: Sequence[float]) -> float:
    """How many processes' worth of work is done while the busiest is always busy."""
    return sum(used) / max(used) if max(used, default=0) > 0 else 0.0
