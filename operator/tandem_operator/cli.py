"""The command `tandem`: a group whose commands come from entry points and are imported only when they run."""

import signal
import sys
from importlib.metadata import EntryPoint, entry_points

import click

from tandem_operator.images import DISTRIBUTION

ENTRY_POINTS = "tandem.commands"
COMMAND = "tandem.command"

SUMMARIES = {
    "operator": "Run the Kubernetes operator.",
    "render": "Print the manifests that the operator would apply.",
    "router": "Run the router in front of the workers.",
    "sim-engine": "Run a simulated engine, without a GPU.",
    "up": "Run an LLMService on this machine, without a cluster.",
    "worker": "Run one prefill, decode or mixed worker.",
}
EXTRAS = {"sim-engine": "sim", "up": "operator,router,worker"}


class LazyGroup(click.Group):
    """Knows its commands by name; loads one when it is called or asked for its help."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(_found())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        point = _found().get(cmd_name)
        if point is None:
            return None
        ctx.meta[COMMAND] = cmd_name
        command = point.load()
        if not isinstance(command, click.Command):
            raise click.ClickException(f"{point.value} is no click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, SUMMARIES.get(name, "")) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            module = (error.name or "").partition(".")[0]
            if module.startswith("tandem_"):
                raise
            raise click.ClickException(missing(ctx.meta.get(COMMAND, ""), module)) from error


def _found() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def missing(command: str, module: str) -> str:
    """What to install when a command's dependency is not there."""
    extra = EXTRAS.get(command, command)
    return f"`tandem {command}` needs {module}, which is not installed: pip install '{DISTRIBUTION}[{extra}]'"


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name=DISTRIBUTION, prog_name="tandem")
def main() -> None:
    """Serve large language models with prefill and decode on separate pools.

    Start with `tandem up -f manifests/samples/quickstart.yaml`: it runs a small model on this machine.
    """
    # A container's first process is deaf to SIGTERM until it listens, and some commands import for seconds.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
