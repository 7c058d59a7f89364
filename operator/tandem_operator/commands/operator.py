"""`tandem operator`."""

import asyncio
import logging

import click

from tandem_operator.commands.image_options import image_options
from tandem_operator.images import Images


@click.command("operator")
@click.option(
    "--namespace",
    envvar="TANDEM_NAMESPACE",
    help="Serve the resources of this namespace only; also TANDEM_NAMESPACE. Default: the whole cluster.",
)
@image_options
@click.option("--listen", default="0.0.0.0", show_default=True, help="Address of both ports.")  # noqa: S104  # a pod's
@click.option("--metrics-port", default=9090, show_default=True, type=click.IntRange(0, 65535))
@click.option("--health-port", default=8080, show_default=True, type=click.IntRange(1, 65535))
def command(
    namespace: str | None,
    listen: str,
    metrics_port: int,
    health_port: int,
    images: Images,
) -> None:
    """Run the operator: turn every LLMService into a router, worker pools and, if asked, a planner.

    It finds the cluster as kubectl does: inside a pod through its service account, elsewhere through
    KUBECONFIG. The resource definitions must be there already (`kubectl apply -f manifests/crds`).

    \b
    Try it from a laptop, against the cluster that kubectl talks to:
      tandem operator --namespace demo
      kubectl -n demo apply -f manifests/samples/quickstart.yaml
      kubectl -n demo get llms,pool

    Metrics are on port 9090 (/metrics), liveness on port 8080 (/healthz).
    """
    from tandem_operator import cluster_config, operate, recorder

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for noisy in ("kopf", "aiohttp.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    options = operate.Options(namespace, images, listen, metrics_port, health_port)
    try:
        asyncio.run(operate.operate(cluster_config.load(), options))
    except (cluster_config.NoClusterError, operate.MissingDefinitionsError, *recorder.UNREACHABLE) as error:
        raise click.ClickException(str(error) or "the API server does not answer") from error
