"""What the router knows of caches: exactly from workers that tell, else from what it sent."""

from tandem_router.kv_events import Stored
from tandem_router.kv_index import KvIndex
from tandem_router.types import Choice, Endpoint, Path, Report, RequestInfo, Role
from tandem_router.views import Views

IDS = tuple(range(64))


def worker(name: str, role: Role = Role.DECODE) -> Endpoint:
    return Endpoint(name, "10.0.0.1", 8100, role, "x", "vllm", "m", "1")


def request(**more: object) -> RequestInfo:
    return RequestInfo("r", "m", 2000, True, prefix=(1, 2, 3), **more)  # type: ignore[arg-type]


def choice(prefill: str | None, decode: str) -> Choice:
    first = None if prefill is None else worker(prefill, Role.PREFILL)
    return Choice(first, worker(decode), Path.DISAGGREGATED, "")


def test_what_was_sent_is_remembered_of_both_workers() -> None:
    views = Views()
    views.sent(request(), choice("p", "d"))
    assert views.of(request()).matches == {"p": 384, "d": 384}
    assert views.of(RequestInfo("r", "m", 2000, True, prefix=(9,))).matches == {}
    assert views.of(RequestInfo("r", "m", 2000, True)).matches == {}


def test_workers_that_tell_are_believed_more_than_memory() -> None:
    views = Views(index=KvIndex(), clock=lambda: 0.0)
    assert views.index is not None
    views.sent(request(), choice("told", "silent"))
    views.index.apply("told", "m", Stored((1, 2), None, IDS[:32], 16))
    assert views.of(request(token_ids=IDS)).matches == {"told": 32, "silent": 384}


def test_what_was_just_sent_counts_before_the_worker_tells() -> None:
    now = 0.0
    views = Views(index=KvIndex(), clock=lambda: now)
    assert views.index is not None
    views.index.apply("p", "m", Stored((1,), None, IDS[:16], 16))
    asked = RequestInfo("r", "m", 64, True, token_ids=IDS)
    assert views.of(asked).matches == {"p": 16}
    views.sent(asked, choice("p", "d"))
    now = 1.0
    assert views.of(asked).matches == {"p": 64}
    now = 3.0
    assert views.of(asked).matches == {"p": 16}


def test_draining_workers_get_no_more_requests() -> None:
    views = Views(ejected=lambda: frozenset("a"))
    views.reports.heard("b", Report(draining=True), 0.0)
    assert views.of(request()).ejected == {"a", "b"}
