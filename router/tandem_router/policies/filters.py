"""The filters that always hold: ready workers, of the model, in roles and revisions that fit each other."""

from tandem_router.types import Endpoint, Pair, RequestInfo, Role


class EndpointFilter:
    """Looks at workers one by one and accepts every pair of those that passed."""

    def pair(self, _request: RequestInfo, _pair: Pair, /) -> bool:
        return True


class PairFilter:
    """Looks at pairs only."""

    def endpoint(self, _request: RequestInfo, _endpoint: Endpoint, /) -> bool:
        return True


class Ready(EndpointFilter):
    def endpoint(self, _request: RequestInfo, endpoint: Endpoint, /) -> bool:
        return endpoint.ready


class Model(EndpointFilter):
    def endpoint(self, request: RequestInfo, endpoint: Endpoint, /) -> bool:
        return endpoint.model == request.model


class Roles(PairFilter):
    """A prefill worker hands over to a decode worker; a decode or mixed worker can do both phases itself."""

    def pair(self, _request: RequestInfo, pair: Pair, /) -> bool:
        if pair.prefill is None:
            return pair.decode.role is not Role.PREFILL
        return pair.prefill.role is Role.PREFILL and pair.decode.role is Role.DECODE


class Revision(PairFilter):
    """KV only means the same to workers of one engine and one revision."""

    def pair(self, _request: RequestInfo, pair: Pair, /) -> bool:
        prefill, decode = pair.prefill, pair.decode
        return prefill is None or (prefill.engine, prefill.revision) == (decode.engine, decode.revision)
