"""The routers that are measured, as data: how each is installed and started before the same mock engines.

The regular engines serve whole requests; the prefill and decode engines each do their half of one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

HOST = "127.0.0.1"
ROUTER_PORT = 18100
METRICS_PORT = 18101
REGULAR = (18201, 18202)
PREFILL = (18211, 18212)
DECODE = (18221, 18222)

BOOTSTRAP_PORT = "8998"
"""SGLang's; nobody listens there, since mock engines move no KV."""


def _url(port: int) -> str:
    return f"http://{HOST}:{port}"


def _each(flag: str, ports: tuple[int, ...], *more: str) -> tuple[str, ...]:
    return tuple(part for port in ports for part in (flag, _url(port), *more))


@dataclass(frozen=True, slots=True)
class Peer:
    """One router, or none (`direct`).

    `requirement`: what pip installs into an environment of its own; without one it runs in ours.
    `command`: its words may hold {python}, {bin} (the environment's folder of programs), {work}, {standins}.
    `two_legs`: it splits each request between a prefill and a decode engine.
    `only`, `skip`: names of phases; `skip` are those that it cannot do or that would take minutes.
    `asked_for`: only measured when named; `why_not` says why it is not measured by default, or cannot be.
    """

    name: str
    what: str
    command: tuple[str, ...] = ()
    requirement: str = ""
    two_legs: bool = False
    processes: int = 1
    port: int = ROUTER_PORT
    environment: Mapping[str, str] = field(default_factory=dict)
    only: frozenset[str] = frozenset()
    skip: frozenset[str] = frozenset()
    asked_for: bool = False
    why_not: str = ""
    minimum_python: tuple[int, int] = (3, 11)


DIRECT = Peer("direct", "no router: the load generator asks a regular engine", port=REGULAR[0])

TANDEM_COMMAND = (
    "{python}", "-m", "tandem_router", "--discovery", "file:{work}/endpoints.json",
    "--settings", "@{work}/settings.json", "--host", HOST, "--port", str(ROUTER_PORT),
)  # fmt: skip

TANDEM = Peer(
    "tandem",
    "this repository's router as it is by default: scheduling, prediction and queueing on, one process",
    TANDEM_COMMAND,
    two_legs=True,
)

TANDEM_TWICE = Peer(
    "tandem-2-processes",
    "the same, two processes on one port",
    (*TANDEM_COMMAND, "--processes", "2"),
    two_legs=True,
    processes=2,
    only=frozenset({"256b"}),
)

_SGLANG = (
    "{python}", "-m", "sglang_router.launch_router", "--host", HOST, "--port", str(ROUTER_PORT),
    "--prometheus-port", str(METRICS_PORT), "--log-level", "warn", "--pd-disaggregation",
    *_each("--prefill", PREFILL, BOOTSTRAP_PORT), *_each("--decode", DECODE), "--policy",
)  # fmt: skip
_VLLM = (
    "{bin}/vllm-router", "--host", HOST, "--port", str(ROUTER_PORT),
    "--prometheus-port", str(METRICS_PORT), "--log-level", "error", "--vllm-pd-disaggregation",
    *_each("--prefill", PREFILL), *_each("--decode", DECODE), "--policy",
)  # fmt: skip
_SGLANG_ROUTER, _VLLM_ROUTER = "sglang-router==0.3.2", "vllm-router==0.1.17"

PEERS = (
    DIRECT,
    TANDEM,
    TANDEM_TWICE,
    Peer(
        "bare-proxy",
        "aiohttp and uvloop, both legs of a request, nothing else (standins/bare_proxy.py)",
        ("{python}", "{standins}/bare_proxy.py", str(ROUTER_PORT), *map(str, (*PREFILL, *DECODE))),
        two_legs=True,
    ),
    Peer(
        "raw-relay",
        "asyncio.Protocol and uvloop, copies bytes, one leg (standins/raw_relay.py)",
        ("{python}", "{standins}/raw_relay.py", str(ROUTER_PORT), *map(str, REGULAR)),
    ),
    Peer(
        "sglang-router",
        "Rust; prefill and decode asked at once, round robin",
        (*_SGLANG, "round_robin"),
        requirement=_SGLANG_ROUTER,
        two_legs=True,
    ),
    Peer(
        "sglang-router-cache",
        "the same, cache aware",
        (*_SGLANG, "cache_aware"),
        requirement=_SGLANG_ROUTER,
        two_legs=True,
        asked_for=True,
        why_not="a second policy of the same router",
    ),
    Peer(
        "vllm-router",
        "Rust; prefill first, then decode, round robin",
        (*_VLLM, "round_robin"),
        requirement=_VLLM_ROUTER,
        two_legs=True,
    ),
    Peer(
        "vllm-router-cache",
        "the same, cache aware",
        (*_VLLM, "cache_aware"),
        requirement=_VLLM_ROUTER,
        two_legs=True,
        asked_for=True,
        why_not="a second policy of the same router",
    ),
    Peer(
        "litellm",
        "Python proxy, simple shuffle, one leg",
        (
            "{bin}/litellm",
            "--config",
            "{work}/litellm.yaml",
            "--host",
            HOST,
            "--port",
            str(ROUTER_PORT),
            "--num_workers",
            "1",
            "--telemetry",
            "False",
        ),
        # Newer ones want a certifi that is younger than most mirrors.
        requirement="litellm[proxy]==1.100.0",
        environment={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"},
        skip=frozenset({"16kb", "1mib", "slow-readers", "streams-200", "streams-500", "steps-200"}),
    ),
    Peer(
        "production-stack",
        "vLLM production-stack's Python router, round robin, one leg",
        (
            "{bin}/vllm-router",
            "--host",
            HOST,
            "--port",
            str(ROUTER_PORT),
            "--service-discovery",
            "static",
            "--static-backends",
            ",".join(map(_url, REGULAR)),
            "--static-models",
            "mock,mock",
            "--routing-logic",
            "roundrobin",
        ),
        requirement="vllm-router @ git+https://github.com/vllm-project/production-stack",
        asked_for=True,
        why_not="it is on no package index (the vllm-router there is another program): installs from git",
        minimum_python=(3, 12),
    ),
    Peer(
        "dynamo",
        "NVIDIA Dynamo's frontend",
        asked_for=True,
        why_not="it routes to its own workers only, so it cannot stand in front of the same engines",
    ),
)
