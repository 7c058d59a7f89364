"""What this router has in flight on each worker: the load that the policies see."""

from collections.abc import Iterator, Mapping

from tandem_router.types import IDLE, Load


class LoadBook(Mapping[str, Load]):
    """Endpoint name -> load, kept by `begin` and `end`. Idle workers are absent."""

    def __init__(self) -> None:
        self._loads: dict[str, Load] = {}

    def begin(self, endpoint: str, tokens: int) -> None:
        load = self._loads.get(endpoint, IDLE)
        self._loads[endpoint] = Load(load.requests + 1, load.tokens + tokens)

    def end(self, endpoint: str, tokens: int) -> None:
        """Undoes one `begin` with the same arguments. Raises ValueError if there was none."""
        load = self._loads.get(endpoint, IDLE)
        if load.requests < 1 or load.tokens < tokens:
            raise ValueError(f"{endpoint} has no such request in flight: {load}, {tokens} tokens")
        if load.requests == 1:
            del self._loads[endpoint]
        else:
            self._loads[endpoint] = Load(load.requests - 1, load.tokens - tokens)

    def __getitem__(self, endpoint: str) -> Load:
        return self._loads[endpoint]

    def __iter__(self) -> Iterator[str]:
        return iter(self._loads)

    def __len__(self) -> int:
        return len(self._loads)
