"""The command `tandem router`. What it runs is imported when it runs."""

import logging
from pathlib import Path
from typing import Any

import click

from tandem_router.config import ANY_ADDRESS, RouterConfig
from tandem_router.durations import parse_duration


class Duration(click.ParamType[float]):
    """Seconds, written as 500ms, 1.5s, 2m."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return value if isinstance(value, float) else parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.option(
    "--discovery",
    required=True,
    envvar="TANDEM_DISCOVERY",
    show_envvar=True,
    metavar="SOURCE",
    help="Where the workers are: file:PATH (JSON) or kubernetes:NAMESPACE/SERVICE (a service's pods).",
)
@click.option(
    "--host",
    "hosts",
    multiple=True,
    default=(ANY_ADDRESS,),
    show_default=True,
    help="Address to listen on. Repeatable.",
)
@click.option(
    "--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="Port to listen on."
)
@click.option("--model", default="", help="Name of the model, where the source of workers does not tell it.")
@click.option("--service", default="", help="Name of the LLMService: the label llmservice of the metrics.")
@click.option("--slo-ttft", type=Duration(), help="Objective for the time to the first token, such as 500ms.")
@click.option(
    "--slo-tpot", type=Duration(), help="Objective for the mean time per later token, such as 40ms."
)
@click.option(
    "--request-timeout",
    type=Duration(),
    default="10m",
    show_default=True,
    help="A request that is not done by then ends with an error, whatever it was doing.",
)
@click.option(
    "--max-body-bytes",
    type=click.IntRange(min=1024),
    default=16 * 2**20,
    show_default=True,
    help="Longer request bodies are refused (413).",
)
@click.option(
    "--max-in-flight",
    type=click.IntRange(min=1),
    default=2048,
    show_default=True,
    help="Requests at once; more are refused (429).",
)
@click.option(
    "--drain-timeout",
    type=Duration(),
    default="30s",
    show_default=True,
    help="After SIGTERM, requests in flight get this long to end.",
)
@click.option(
    "--processes",
    type=click.IntRange(min=1, max=64),
    default=1,
    show_default=True,
    help="Processes that share the port; requests in flight are counted and limited over all of them.",
)
@click.option(
    "--tls-cert",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A file with the certificate chain: clients are served over TLS. Read again when it changes.",
)
@click.option(
    "--tls-key",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A file with the certificate's key.",
)
@click.option(
    "--api-keys",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    envvar="TANDEM_API_KEYS",
    show_envvar=True,
    help="A file of API keys (docs/access.md): only who sends one of them is served.",
)
@click.option(
    "--trtllm-auth-key-file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    envvar="TANDEM_TRTLLM_AUTH_KEY_FILE",
    show_envvar=True,
    help="A file with TensorRT-LLM's internal_request_auth_key, to sign hand-overs with.",
)
@click.option(
    "--settings",
    default="{}",
    envvar="TANDEM_ROUTER_SETTINGS",
    show_envvar=True,
    metavar="JSON|@FILE",
    help="Classes, scheduling, queueing and more: what docs/configuration.md lists.",
)
def command(settings: str, processes: int, **options: Any) -> None:
    """Run the router in front of the workers.

    It speaks OpenAI's API (chat completions, completions, responses, embeddings, models) and Anthropic's
    messages. Each prompt goes to a prefill worker; a decode worker takes over its KV cache and streams the
    answer. The answer's headers x-tandem-prefill, x-tandem-decode and x-tandem-path tell who served it and
    how.

    \b
    Try it with a file of workers:
      tandem router --discovery file:endpoints.json --port 8000
      curl localhost:8000/v1/models

    /healthz, /readyz (200 while some worker can serve) and /metrics (Prometheus) are on the same port.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    from tandem_router.processes import run_processes, shared_port
    from tandem_router.settings import read_settings

    if (options["tls_cert"] is None) != (options["tls_key"] is None):
        raise click.UsageError("--tls-cert and --tls-key go together")
    port = shared_port()
    if processes > 1 and port is None:
        try:
            raise SystemExit(run_processes(processes, options["hosts"][0], options["port"]))
        except OSError as error:
            raise click.ClickException(f"cannot serve on port {options['port']}: {error}") from error
    if port is not None:
        share = -(-options["max_in_flight"] // processes)
        options |= {"port": port, "max_in_flight": share, "shared": True}
    try:
        config = RouterConfig(settings=read_settings(settings), **options)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    _run(config)


def _run(config: RouterConfig) -> None:
    from tandem_router.access.keys import KeysError
    from tandem_router.discovery import DiscoveryError, parse_source
    from tandem_router.http.loop import run
    from tandem_router.kv_events import TokenizerError
    from tandem_router.server import serve
    from tandem_router.settings import policy

    try:
        chosen = policy(config.settings)
        discovery = parse_source(config.discovery, config.model)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    try:
        run(serve(config, chosen, discovery))
    except (DiscoveryError, TokenizerError) as error:
        raise click.ClickException(str(error)) from error
    except KeysError as error:
        raise click.ClickException(f"the API keys cannot be used: {error}") from error
    except OSError as error:
        hosts = " and ".join(config.hosts)
        raise click.ClickException(f"cannot serve on {hosts}, port {config.port}: {error}") from error
