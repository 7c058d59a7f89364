"""What this router has in flight on each worker: the load that the policies see."""

from tandem_router.types import IDLE, Load


class LoadBook(dict[str, Load]):
    """Endpoint name -> load, kept by `begin` and `end`. Idle workers are absent."""

    def begin(self, endpoint: str, tokens: int) -> None:
        load = self.get(endpoint, IDLE)
        self[endpoint] = Load(load.requests + 1, load.tokens + tokens)

    def end(self, endpoint: str, tokens: int) -> None:
        """Undoes one `begin` with the same arguments. Raises ValueError if there was none."""
        load = self.get(endpoint, IDLE)
        if load.requests < 1 or load.tokens < tokens:
            raise ValueError(f"{endpoint} has no such request in flight: {load}, {tokens} tokens")
        if load.requests == 1:
            del self[endpoint]
        else:
            self[endpoint] = Load(load.requests - 1, load.tokens - tokens)
