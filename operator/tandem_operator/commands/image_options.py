"""Options that choose the images, shared by the commands that make manifests."""

from collections.abc import Callable
from typing import TypeVar

import click

from tandem_operator.images import DEFAULT_IMAGES

Function = TypeVar("Function", bound=Callable[..., None])

_OPTIONS = (
    ("router", "routers", DEFAULT_IMAGES.router),
    ("worker", "native workers", DEFAULT_IMAGES.native),
    ("vllm", "vLLM workers", DEFAULT_IMAGES.vllm),
)


def image_options(function: Function) -> Function:
    """Adds --router-image, --worker-image and --vllm-image, each with an environment variable."""
    for name, users, default in reversed(_OPTIONS):
        variable = f"TANDEM_{name.upper()}_IMAGE"
        text = f"Image of {users} whose LLMService names none; also {variable}."
        option = click.option(
            f"--{name}-image", envvar=variable, default=default, show_default=True, help=text
        )
        function = option(function)
    return function
