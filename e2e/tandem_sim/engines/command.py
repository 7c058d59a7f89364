"""`tandem sim-engine`: a simulated engine as a process."""

import asyncio
import signal
from collections.abc import Callable
from typing import Any

import click

from tandem_perf import profile
from tandem_sim.engines.faults import Fault
from tandem_sim.engines.protocols import PROTOCOLS
from tandem_sim.engines.server import running
from tandem_sim.engines.settings import Settings

_SECONDS = click.FloatRange(min=0)
_COUNT = click.IntRange(min=0)
_PORT = click.IntRange(0, 65535)
Command = Callable[..., None]
_ROLES = click.Choice(["prefill", "decode", "mixed"])


def _option(name: str, kind: Any, default: Any, text: str) -> Callable[[Command], Command]:
    return click.option(name, type=kind, default=default, show_default=True, help=text)


@click.command(name="sim-engine")
@_option("--protocol", click.Choice(list(PROTOCOLS)), "nixl", "How it hands KV over.")
@_option("--role", _ROLES, "mixed", "The leg that it serves; `mixed` serves whole requests.")
@_option("--model", str, "fake", "Name that /v1/models and answers carry.")
@_option("--host", str, "127.0.0.1", "Address to listen on, and to tell partners.")
@_option("--port", _PORT, 8100, "HTTP port.")
@_option("--bootstrap-port", _PORT, 8998, "Where decode workers of mooncake and sglang come to.")
@_option("--kv-port", _PORT, 8200, "gRPC port of the native protocol.")
@_option("--prefill-seconds", _SECONDS, 0.0, "Time that a prompt takes, one after another.")
@_option("--token-seconds", _SECONDS, 0.0, "Time of a decode step.")
@click.option("--profile", "reference", help="Take times from this latency profile: a name, or a .json file.")
@_option("--tokens-per-event", click.IntRange(min=1), 1, "Tokens in one event of a stream.")
@_option("--link-seconds", _SECONDS, 0.0, "Time that KV needs on its way, besides the profile's.")
@_option("--start-seconds", _SECONDS, 0.0, "Answer 503 for this long.")
@_option("--lease-seconds", _SECONDS, 30.0, "How long KV is kept for a partner.")
@_option("--wait-seconds", _SECONDS, 300.0, "How long a leg waits for its partner.")
@_option("--max-running", _COUNT, 0, "Requests at a time; 0 means no limit.")
@click.option("--max-waiting", type=_COUNT, help="Requests that may wait for a place; more get a 429.")
@_option("--kv-tokens", _COUNT, 0, "Tokens that fit into KV memory; 0 means no limit.")
@_option("--block-size", click.IntRange(min=1), 16, "Tokens in a block.")
@_option("--prefix-cache/--no-prefix-cache", bool, False, "Skip prompt tokens that were computed before.")
@_option("--events", click.Choice(["none", "array", "map"]), "none", "Publish KV events over ZMQ.")
@_option("--events-port", _PORT, 5557, "Port of KV events.")
@_option("--replay-port", _PORT, 5558, "Port where past KV events are asked for.")
@_option("--events-topic", str, "", "Topic of KV events; routers expect kv@<pod>@<model>.")
@_option("--ranks", click.IntRange(min=1), 1, "Data parallel ranks (mooncake).")
@_option("--on-load-failure", click.Choice(["fail", "recompute"]), "fail", "When KV cannot be had.")
@click.option("--fault", type=click.Choice(list(Fault)), help="Show this fault for the first requests.")
@_option("--times", click.IntRange(min=1), 1, "For how many requests.")
def command(reference: str | None, fault: str | None, times: int, **options: Any) -> None:
    """Run an HTTP engine without a GPU that keeps a real one's hand-over protocol, strictly.

    Tokens are words. The text follows from the prompt alone, so it is the same wherever a request runs; KV
    that is gone means what it means to the real engine: wrong text (nixl), an error, or a wait.

    \b
    A pair and the router in front of it:
      tandem sim-engine --protocol sglang --role prefill --host 127.0.1.1 &
      tandem sim-engine --protocol sglang --role decode --host 127.0.1.2 &
      tandem router --discovery file:endpoints.json

    \b
    While it runs:
      GET  /sim/stats    requests and KV handles, by what became of them
      POST /sim/faults   {"fault": "error", "times": 1}: the next request fails
      POST /sim/restart  a new engine id, and no KV any more
      GET  /metrics      under the names of the engine that it stands for

    \b
    Faults: error, busy, hang, die, stream_error, late_error, die_mid_stream, truncate; of a prefill leg
    no_params, expired, lost_kv, killed_after_prefill; of a decode leg slow_link, late_pull.
    """
    if reference is not None:
        try:
            found = profile.load(reference)
        except (ValueError, OSError) as error:
            raise click.BadParameter(str(error), param_hint="--profile") from error
        options |= {"latency": found.latency, "kv_bytes_per_token": found.kv_bytes_per_token}
    asyncio.run(_run(Settings(**options), fault, times))


async def _run(settings: Settings, fault: str | None, times: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running(settings) as engine:
        if fault is not None:
            engine.faults.inject(Fault(fault), times)
        what = f"{settings.protocol} {settings.role} engine for {settings.model}"
        click.echo(f"{what} on http://{settings.host}:{engine.port}")
        await stop.wait()
