"""`python -m tandem_sim.engines --role prefill --port 9101`."""

import asyncio
from typing import Any

import click

from tandem_sim.engines.faults import Fault
from tandem_sim.engines.server import running
from tandem_sim.engines.settings import Settings


@click.command()
@click.option("--role", type=click.Choice(["prefill", "decode", "mixed"]), default="mixed", show_default=True)
@click.option("--flavour", type=click.Choice(["vllm", "native"]), default="vllm", show_default=True)
@click.option("--model", default="fake", show_default=True, help="Name that /v1/models and answers carry.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8100, show_default=True, type=click.IntRange(0, 65535))
@click.option("--prefill-seconds", default=0.0, show_default=True, help="Time that a prefill takes.")
@click.option("--token-seconds", default=0.0, show_default=True, help="Time between events of a stream.")
@click.option("--tokens-per-event", default=1, show_default=True, type=click.IntRange(min=1))
@click.option("--lease-seconds", default=30.0, show_default=True, help="How long KV waits to be pulled.")
@click.option(
    "--fault", type=click.Choice([str(fault) for fault in Fault]), help="Show this for the first requests."
)
@click.option("--times", default=1, show_default=True, help="For how many requests.")
def main(fault: str | None, times: int, **options: Any) -> None:
    """Run an HTTP engine without a GPU that speaks vLLM's NixlConnector protocol.

    GET /fake/stats tells requests and handles.
    POST /fake/faults {"fault": "error", "times": 1} makes the next request fail.
    """
    asyncio.run(_run(Settings(**options), fault, times))


async def _run(settings: Settings, fault: str | None, times: int) -> None:
    async with running(settings) as engine:
        if fault is not None:
            engine.faults.inject(Fault(fault), times)
        click.echo(f"{settings.role} engine for {settings.model} on http://{settings.host}:{engine.port}")
        await asyncio.Event().wait()


if __name__ == "__main__":
    main()
