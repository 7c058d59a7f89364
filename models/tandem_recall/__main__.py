"""Command line: `python -m tandem_recall train` and `evaluate`."""

import logging
import time
from pathlib import Path

import click
import torch

from tandem_recall.checkpoint import load, save
from tandem_recall.evaluate import report
from tandem_recall.settings import Settings
from tandem_recall.train import new_model, train

logger = logging.getLogger("tandem_recall")
_DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@click.group()
def main() -> None:
    """Train and measure the demo model that recalls values."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")


@main.command("train")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--steps", default=Settings().num_steps, show_default=True, help="Optimizer steps.")
@click.option(
    "--tokens-per-step", default=Settings().tokens_per_step, show_default=True, help="Tokens in a batch."
)
@click.option("--seed", default=Settings().seed, show_default=True, help="Of the weights and of the text.")
@click.option("--loaders", default=0, show_default=True, help="Processes that make text; 0: this one.")
@click.option("--log-every", default=100, show_default=True, help="Steps between two lines of log.")
@click.option("--device", default=_DEVICE, show_default=True, help="Where to train.")
def train_command(
    folder: Path, steps: int, tokens_per_step: int, seed: int, loaders: int, log_every: int, device: str
) -> None:
    """Train a model and write its checkpoint to FOLDER."""
    settings = Settings(num_steps=steps, tokens_per_step=tokens_per_step, seed=seed)
    model = new_model(seed)
    logger.info("%.2f M parameters", model.num_parameters() / 1e6)
    started = time.perf_counter()
    train(model, settings, torch.device(device), loaders, log_every)
    logger.info("trained in %.0f s", time.perf_counter() - started)
    save(model, folder)


@main.command("evaluate")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--prompts", default=2000, show_default=True, help="Held-out prompts; of other kinds a quarter each."
)
@click.option("--seed", default=2, show_default=True, help="Of the prompts.")
@click.option("--device", default=_DEVICE, show_default=True, help="Where to compute, in float32.")
def evaluate_command(folder: Path, prompts: int, seed: int, device: str) -> None:
    """Measure the recall of the checkpoint in FOLDER; print Markdown tables."""
    click.echo(report(load(folder, torch.device(device)), prompts, seed))


if __name__ == "__main__":
    main()
