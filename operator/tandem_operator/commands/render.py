"""`tandem render`."""

from typing import TextIO

import click
import yaml

from tandem_operator.api import Manifest, WorkerPool
from tandem_operator.commands.image_options import image_options
from tandem_operator.desired import children, pool_children
from tandem_operator.documents import DocumentError, services
from tandem_operator.images import Images


@click.command("render")
@click.option(
    "-f",
    "--filename",
    "file",
    type=click.File("r", encoding="utf-8"),
    required=True,
    help="File with LLMServices; - reads standard input.",
)
@image_options
def command(file: TextIO, images: Images) -> None:
    """Print what the operator would apply for the LLMServices of a file, as YAML.

    Both levels are shown: the router's objects and the WorkerPools, and each WorkerPool's Deployment.
    A file that the operator would refuse gives every wrong field and exit status 1.

    \b
      tandem render -f manifests/samples/quickstart.yaml
      tandem render -f service.yaml | kubectl diff -f -
    """
    try:
        manifests = [child for service in services(file) for child in _everything(children(service, images))]
    except DocumentError as error:
        raise click.ClickException(str(error)) from error
    click.echo(yaml.safe_dump_all(manifests, sort_keys=False, explicit_start=True), nl=False)


def _everything(manifests: list[Manifest]) -> list[Manifest]:
    """The manifests, and after each WorkerPool what is made for it."""
    return [
        each
        for manifest in manifests
        for each in (
            manifest,
            *(pool_children(WorkerPool.model_validate(manifest)) if manifest["kind"] == "WorkerPool" else ()),
        )
    ]
