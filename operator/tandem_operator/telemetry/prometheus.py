"""Observations from a Prometheus, by instant queries."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Literal

import aiohttp
from pydantic import BaseModel, ValidationError

from tandem_operator.planner.types import Observation
from tandem_operator.telemetry.assemble import assemble
from tandem_operator.telemetry.base import TelemetryError
from tandem_operator.telemetry.readings import READINGS, Reading, Values, promql

_TIMEOUT = aiohttp.ClientTimeout(total=5)


class _Series(BaseModel):
    metric: dict[str, str]
    value: tuple[float, str]


class _Scalar(BaseModel):
    resultType: Literal["scalar"]  # noqa: N815 - Prometheus' name
    result: tuple[float, str]


class _Vector(BaseModel):
    resultType: Literal["vector"]  # noqa: N815 - Prometheus' name
    result: list[_Series]


class _Answer(BaseModel):
    status: str
    data: _Scalar | _Vector | None = None
    error: str = ""


class PrometheusTelemetry:
    """Reads the series of one service. Prometheus must label what it scrapes with `namespace`."""

    def __init__(self, url: str, namespace: str, service: str, window: float) -> None:
        self._url = f"{url.rstrip('/')}/api/v1/query"
        self._selector = {"llmservice": service, "namespace": namespace}
        self._window = window

    async def observe(self, now: float) -> Observation:
        """As Prometheus sees it: its own clock counts, not `now`."""
        return assemble(await self.read(READINGS, now), self._window)

    async def read(self, readings: Sequence[Reading], now: float) -> Values:  # noqa: ARG002 - the seam's
        """All readings are of one moment, so that a sum and a count of the same samples agree."""
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            moment = await self._query(session, "time()")
            if not isinstance(moment, _Scalar):
                raise self._no_prometheus()
            answers = await asyncio.gather(
                *(self._read(session, reading, moment.result[1]) for reading in readings)
            )
        return {reading.key: answer for reading, answer in zip(readings, answers, strict=True)}

    async def _read(
        self, session: aiohttp.ClientSession, reading: Reading, moment: str
    ) -> Mapping[tuple[str, ...], float]:
        data = await self._query(session, promql(reading, self._selector, self._window), time=moment)
        if not isinstance(data, _Vector):
            raise self._no_prometheus()
        return {
            tuple(series.metric.get(label, "") for label in reading.by): float(series.value[1])
            for series in data.result
        }

    async def _query(
        self, session: aiohttp.ClientSession, query: str, **parameters: str
    ) -> _Scalar | _Vector | None:
        try:
            async with session.post(self._url, data={"query": query, **parameters}) as response:
                answer = _Answer.model_validate_json(await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            detail = str(error) or type(error).__name__
            raise TelemetryError("unreachable", f"Prometheus does not answer: {detail}") from error
        except ValidationError as error:
            raise self._no_prometheus() from error
        if answer.status != "success":
            raise TelemetryError("bad_answer", f"Prometheus refused a query: {answer.error}")
        return answer.data

    def _no_prometheus(self) -> TelemetryError:
        return TelemetryError("bad_answer", f"{self._url} does not answer as Prometheus does")
