"""Observations from a Prometheus, by instant queries."""

import asyncio
from collections.abc import Mapping

import aiohttp
from pydantic import BaseModel, ValidationError

from tandem_operator.planner.types import Observation
from tandem_operator.telemetry.assemble import assemble
from tandem_operator.telemetry.base import TelemetryError
from tandem_operator.telemetry.readings import READINGS, Reading, promql

_TIMEOUT = aiohttp.ClientTimeout(total=5)


class _Series(BaseModel):
    metric: dict[str, str]
    value: tuple[float, str]


class _Vector(BaseModel):
    result: list[_Series]


class _Answer(BaseModel):
    status: str
    data: _Vector = _Vector(result=[])
    error: str = ""


class PrometheusTelemetry:
    """Reads the series of one service. Prometheus must label what it scrapes with `namespace`."""

    def __init__(self, url: str, namespace: str, service: str, window: float) -> None:
        self._url = f"{url.rstrip('/')}/api/v1/query"
        self._selector = {"llmservice": service, "namespace": namespace}
        self._window = window

    async def observe(self, now: float) -> Observation:  # noqa: ARG002
        """As Prometheus sees it: its own clock counts, not `now`."""
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            answers = await asyncio.gather(*(self._read(session, reading) for reading in READINGS))
        values = {reading.key: answer for reading, answer in zip(READINGS, answers, strict=True)}
        return assemble(values, self._window)

    async def _read(
        self, session: aiohttp.ClientSession, reading: Reading
    ) -> Mapping[tuple[str, ...], float]:
        query = promql(reading, self._selector, self._window)
        try:
            async with session.post(self._url, data={"query": query}) as response:
                answer = _Answer.model_validate_json(await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            detail = str(error) or type(error).__name__
            raise TelemetryError("unreachable", f"Prometheus does not answer: {detail}") from error
        except ValidationError as error:
            raise TelemetryError(
                "bad_answer", f"{self._url} does not answer as Prometheus does (HTTP {response.status})"
            ) from error
        if answer.status != "success":
            raise TelemetryError("bad_answer", f"Prometheus refused a query: {answer.error}")
        return {
            tuple(series.metric.get(label, "") for label in reading.by): float(series.value[1])
            for series in answer.data.result
        }
