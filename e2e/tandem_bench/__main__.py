"""`python -m tandem_bench router` measures; `python -m tandem_bench publish` writes docs/results.md."""

from pathlib import Path

import click

from tandem_bench.paths import CACHE
from tandem_bench.router import page
from tandem_bench.router.command import command as router


@click.group()
def main() -> None:
    """Benchmarks of the router beside its peers."""


@main.command()
@click.argument("result", type=click.Path(path_type=Path, exists=True), default=CACHE / "router.json")
def publish(result: Path) -> None:
    """Write the router's part of docs/results.md from RESULT (.cache/bench/router.json); keep RESULT too."""
    try:
        page.publish(result)
    except (page.PageError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{page.PAGE} is made from {result}")


main.add_command(router, "router")

if __name__ == "__main__":
    main()
