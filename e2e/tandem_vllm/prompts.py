"""Random prompts; a prompt of n characters is n tokens."""

import itertools
import random
from collections.abc import Iterator

from tandem_vllm import checkpoint


def prompt(length: int, seed: str) -> str:
    """Always the same for the same seed."""
    return "".join(random.Random(seed).choices(checkpoint.ALPHABET, k=length))


def prompts(length: int, seed: str) -> Iterator[str]:
    """Prompts of that length without end."""
    return (prompt(length, f"{seed} {i}") for i in itertools.count())
