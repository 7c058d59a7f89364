"""Options that choose the images, shared by the commands that make manifests."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import click

from tandem_operator.images import DEFAULT_IMAGES, Images

Function = TypeVar("Function", bound=Callable[..., None])

_OPTIONS = (
    ("router", "routers", DEFAULT_IMAGES.router),
    ("worker", "native workers", DEFAULT_IMAGES.native),
    ("vllm", "vLLM workers", DEFAULT_IMAGES.vllm),
    ("sglang", "SGLang workers", DEFAULT_IMAGES.sglang),
    ("trtllm", "TensorRT-LLM workers", DEFAULT_IMAGES.trtllm),
)
_FIELDS = {name: "native" if name == "worker" else name for name, _, _ in _OPTIONS}


def image_options(function: Function) -> Function:
    """Adds --router-image, --worker-image and one for each other engine, all with environment variables.

    The command gets them together, as `images`.
    """

    @wraps(function)
    def with_images(**values: Any) -> None:
        chosen = {field: values.pop(f"{name}_image") for name, field in _FIELDS.items()}
        function(**values, images=Images(**chosen))

    command: Any = with_images
    for name, users, default in reversed(_OPTIONS):
        variable = f"TANDEM_{name.upper()}_IMAGE"
        text = f"Image of {users} whose LLMService names none; also {variable}."
        option = click.option(
            f"--{name}-image", envvar=variable, default=default, show_default=True, help=text
        )
        command = option(command)
    return cast(Function, command)
