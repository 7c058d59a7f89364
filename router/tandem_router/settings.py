"""The router's settings from the command line: JSON, or a file of it."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from tandem_perf.profile import load
from tandem_router.policies.registry import Policy, build
from tandem_wire.router_settings import RouterSettings


def read_settings(text: str) -> RouterSettings:
    """From JSON, or from the file that follows an `@`. Raises ValueError with what is wrong, in words."""
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except OSError as error:
            raise ValueError(f"the settings cannot be read: {error}") from error
    try:
        return RouterSettings.model_validate_json(text or "{}")
    except ValidationError as error:
        raise ValueError(
            "; ".join(_words(detail["loc"], detail["msg"]) for detail in error.errors())
        ) from None


def _words(path: Sequence[int | str], message: str) -> str:
    return f"settings {'.'.join(map(str, path)) or '(all)'}: {message}"


def policy(settings: RouterSettings) -> Policy:
    """How workers are chosen. Raises ValueError for a policy or a latency profile that does not exist."""
    scheduling = settings.scheduling
    for given in settings.prediction.profiles:
        try:
            load(given.profile)
        except OSError as error:
            raise ValueError(f"the latency profile cannot be read: {error}") from error
    scorers = [f"{scorer.name}={scorer.weight}" for scorer in scheduling.scorers]
    return build(scheduling.filters, scorers, scheduling.picker, settings.disaggregation.mode)
