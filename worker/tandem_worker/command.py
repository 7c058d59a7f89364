"""`tandem worker`: run one worker."""

import asyncio
import logging
import re
from pathlib import Path
from typing import Any, get_args

import click

from tandem_worker.config import Device, Dtype, EngineConfig
from tandem_worker.errors import WorkerError
from tandem_worker.settings import Role, WorkerSettings

WILDCARDS = ("0.0.0.0", "::", "")  # noqa: S104  (not to bind to, but to know)
UNITS = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}
PORT = click.IntRange(0, 65535)
COUNT = click.IntRange(min=1)
SECONDS = click.FloatRange(min=0, min_open=True)


class Bytes(click.ParamType[int]):
    """A size as Kubernetes writes it: 512Mi, 8Gi, or a plain number of bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"(\d+)(Ki|Mi|Gi|Ti)?", str(value))
        if match is None:
            self.fail(f"{value!r} is no size: write 512Mi, 8Gi or a number of bytes", param, ctx)
        return int(match[1]) * UNITS[match[2] or ""]


@click.command(
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 100}
)
@click.option(
    "--model",
    required=True,
    type=click.Path(path_type=Path),
    help="Checkpoint folder as Hugging Face writes it: config.json, *.safetensors, tokenizer.json.",
)
@click.option("--served-model-name", help="Name that requests must ask for; else the folder's name.")
@click.option("--role", type=click.Choice([role.value for role in Role]), default=Role.MIXED.value)
@click.option("--host", default="127.0.0.1", help="Where to listen for HTTP.")
@click.option("--port", type=PORT, default=8100)
@click.option("--kv-host", help="Where to listen for KV (gRPC); else as for HTTP.")
@click.option("--kv-port", type=PORT, default=8200)
@click.option("--advertise-host", help="Where other workers reach the KV port; else the KV host.")
@click.option("--block-size", type=COUNT, default=16, help="Tokens of a KV block; equal in all pools.")
@click.option("--kv-blocks", type=COUNT, help="KV blocks to keep; else as many as --kv-memory holds.")
@click.option("--kv-memory", type=Bytes(), help="Memory for KV, like 4Gi; else what the device has free.")
@click.option("--max-model-len", type=COUNT, help="Prompt and output tokens together; else the model's.")
@click.option("--max-num-seqs", type=COUNT, default=64, help="Sequences that run at the same time.")
@click.option(
    "--max-waiting",
    type=click.IntRange(min=0),
    default=256,
    help="Requests that may wait for one of these to end; more are refused (503), for another worker.",
)
@click.option(
    "--max-batched-tokens",
    type=COUNT,
    default=2048,
    help="Tokens of one step: longer prompts are prefilled in chunks, so decoding goes on meanwhile.",
)
@click.option(
    "--dtype",
    type=click.Choice(get_args(Dtype)),
    default="auto",
    help="auto: the checkpoint's on CUDA, float32 on a CPU.",
)
@click.option("--device", type=click.Choice(get_args(Device)), default="auto")
@click.option("--seed", type=int, default=0, help="Of random weights.")
@click.option("--random-weights", is_flag=True, help="Needs config.json only; for load tests.")
@click.option(
    "--lease-ttl", type=SECONDS, default=30.0, help="Seconds until KV that nobody has pulled is freed."
)
@click.option(
    "--drain-timeout", type=SECONDS, default=60.0, help="Seconds that SIGTERM leaves to running requests."
)
@click.option("--service", default="", show_default=False, help="Name of the LLMService, for metrics.")
@click.option("--pool", default="", show_default=False, help="Name of the pool, for metrics.")
@click.option(
    "--revision", default="", show_default=False, help="What workers of one rollout have in common."
)
@click.option("--threads", type=COUNT, help="CPU threads of the model; else torch decides.")
def command(**options: Any) -> None:
    """Run one worker: it computes prompts, continues them, or both.

    A prefill worker computes a prompt's KV and keeps it, leased, until a decode worker pulls it over gRPC and
    writes the rest of the answer. A mixed worker does both by itself. Every role answers whole requests too.

    \b
    Try it on a laptop, without weights:
      tandem worker --model DIR_WITH_CONFIG_JSON --random-weights --served-model-name tiny
      curl localhost:8100/v1/completions -H 'content-type: application/json' \\
        -d '{"model": "tiny", "prompt": "hello", "max_tokens": 8}'

    \b
    It answers on the HTTP port: /v1/models, /v1/completions, /v1/chat/completions, /metrics,
    /healthz (503: restart it) and /readyz (503: it loads, drains or is broken).
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        settings = _settings(options)
        from tandem_worker.process import run_until_signal

        asyncio.run(run_until_signal(settings))
    except (WorkerError, OSError) as error:
        raise click.ClickException(str(error)) from error


def _settings(options: dict[str, Any]) -> WorkerSettings:
    """ConfigError, ClickException: options that cannot be had together."""
    model: Path = options["model"]
    kv_host = options["kv_host"] or options["host"]
    advertise_host = options["advertise_host"] or kv_host
    if advertise_host in WILDCARDS:
        raise click.ClickException(f"other workers cannot reach {kv_host}: give --advertise-host too")
    return WorkerSettings(
        engine=_engine_config(model, options),
        model_name=options["served_model_name"] or model.resolve().name,
        role=Role(options["role"]),
        host=options["host"],
        port=options["port"],
        kv_host=kv_host,
        kv_port=options["kv_port"],
        advertise_host=advertise_host,
        lease_ttl=options["lease_ttl"],
        drain_timeout=options["drain_timeout"],
        service=options["service"],
        pool=options["pool"],
        revision=options["revision"],
        max_waiting=options["max_waiting"],
        threads=options["threads"],
    )


def _engine_config(model: Path, options: dict[str, Any]) -> EngineConfig:
    return EngineConfig(
        model=model,
        dtype=options["dtype"],
        device=options["device"],
        block_size=options["block_size"],
        num_blocks=options["kv_blocks"],
        kv_memory_bytes=options["kv_memory"],
        max_model_len=options["max_model_len"],
        max_num_seqs=options["max_num_seqs"],
        max_batched_tokens=options["max_batched_tokens"],
        random_weights=options["random_weights"],
        seed=options["seed"],
    )
