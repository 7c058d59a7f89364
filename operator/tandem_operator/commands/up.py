"""`tandem up`: serve an LLMService on this machine."""

import asyncio
import json
import shlex
from pathlib import Path
from typing import TextIO

import click

from tandem_operator.api import LLMService
from tandem_operator.documents import DocumentError
from tandem_operator.local import addresses
from tandem_operator.local.addresses import NoAddressError
from tandem_operator.local.fleet import StartError
from tandem_operator.local.pods import NotLocalError
from tandem_operator.local.run import serve
from tandem_operator.local.source import one_service, with_port

QUICKSTART = "manifests/samples/quickstart.yaml"
QUESTION = "colour = teal\nport = 8443\nanimal = otter\nport?"


@click.command(name="up")
@click.option(
    "-f",
    "--filename",
    "file",
    type=click.File("r", encoding="utf-8"),
    default=QUICKSTART,
    show_default=True,
    help="A YAML file with one LLMService.",
)
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the router, instead of the service's.")
def command(file: TextIO, port: int | None) -> None:
    """Run an LLMService on this machine, without a cluster.

    The router and every worker run as local processes, from the manifests that the operator would apply.
    Workers that end are started again; with `autoscaling.mode: slo` the pools follow the load. Ctrl-C stops
    everything. Logs are in `.tandem/`.
    """
    try:
        service = one_service(file)
        service = with_port(service, port) if port else service
        _check(service)
        folder = Path(".tandem") / f"{service.metadata.name}-{service.spec.router.port}"
        folder.mkdir(parents=True, exist_ok=True)
        _say(f"starting {service.metadata.name}; logs are in {folder}")
        asyncio.run(serve(service, folder.absolute(), _say, lambda: _announce(service)))
    except (DocumentError, NotLocalError, NoAddressError, StartError) as error:
        raise click.ClickException(str(error)) from error


def _check(service: LLMService) -> None:
    """What is better said before anything is started."""
    port, path = service.spec.router.port, service.spec.model.source.path
    if path is not None and not Path(path).is_dir():
        raise click.ClickException(f"model folder {path} does not exist (looked from {Path.cwd()})")
    if not addresses.is_free(addresses.ROUTER, port):
        raise click.ClickException(f"port {port} is in use on {addresses.ROUTER}; choose another with --port")


def _announce(service: LLMService) -> None:
    url = f"http://{addresses.ROUTER}:{service.spec.router.port}"
    body = {
        "model": service.spec.model.name,
        "messages": [{"role": "user", "content": QUESTION}],
        "stream": True,
    }
    click.echo(f"\n{service.metadata.name} is ready at {url}/v1. Ask it something:\n")
    click.echo(
        f"curl -iN {url}/v1/chat/completions -H 'content-type: application/json' \\\n"
        f"  -d {shlex.quote(json.dumps(body))}\n"
    )


def _say(text: str) -> None:
    click.echo(text, err=True)
