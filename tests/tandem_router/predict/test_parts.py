from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem_router.predict.accuracy import Accuracy
from tandem_router.predict.lengths import ENOUGH, WINDOW, OutputLengths
from tandem_router.predict.prompts import Prompts, Sample, Ticket, work_of
from tandem_router.predict.streams import Streams
from tandem_router.predict.tokens import HitRates, TokenEstimates
from tandem_router.types import RequestInfo


def ticket(seconds: float, sent: float, tokens: int = 1000) -> Ticket:
    return Ticket(work_of(tokens, 0), seconds, sent)


def request(**changes: object) -> RequestInfo:
    fields = {"request_id": "r", "model": "m", "prompt_tokens": 100, "stream": True, **changes}
    return RequestInfo(**fields)  # type: ignore[arg-type]


def test_the_wait_is_the_work_in_front_less_what_is_done() -> None:
    prompts = Prompts()
    assert prompts.wait(0.0) == 0.0
    prompts.add(ticket(0.2, sent=0.0))
    prompts.add(ticket(0.3, sent=0.1))
    assert prompts.wait(0.1) == pytest.approx(0.4)
    assert prompts.wait(9.0) < 0.3


def test_a_prompt_computed_with_the_next_one_has_done_part_of_its_work() -> None:
    prompts = Prompts()
    first, second = ticket(0.2, sent=0.0), ticket(0.2, sent=0.0)
    prompts.add(first)
    prompts.add(second)
    prompts.done(first, 0.3)
    assert prompts.wait(0.3) == pytest.approx(0.1)


def test_times_of_prompts_one_after_another_are_learned_apart_and_of_one_step_together() -> None:
    prompts = Prompts()
    tickets = [ticket(0.2, sent=0.0) for _ in range(4)]
    for each in tickets:
        prompts.add(each)
    assert prompts.done(tickets[0], 0.2) is None
    assert prompts.done(tickets[1], 0.42) == Sample(tickets[0].work, 0.2)
    assert prompts.done(tickets[2], 0.421) is None
    together = prompts.done(tickets[3], 0.6)
    assert together is not None
    assert together.work.new_tokens == 2000
    assert together.work.steps == 1
    assert together.seconds == pytest.approx(0.221)


def test_prompts_that_did_not_overlap_are_learned_apart_however_fast() -> None:
    prompts = Prompts()
    seen = []
    for sent in (0.0, 1.0, 2.0):
        one = ticket(0.5, sent)
        prompts.add(one)
        seen.append(prompts.done(one, sent + 0.001))
    assert [sample is not None for sample in seen] == [False, True, True]


def test_nothing_is_learned_from_what_a_lost_prompt_delayed() -> None:
    prompts = Prompts()
    lost, delayed, last = ticket(0.2, 0.0), ticket(0.2, 0.0), ticket(0.2, 0.0)
    for each in (lost, delayed, last):
        prompts.add(each)
    prompts.drop(lost, 0.1)
    assert prompts.done(delayed, 0.2) is None
    assert prompts.done(last, 0.4) is None
    assert prompts.pending is None


def test_prompts_whose_end_nobody_sees_are_waited_for_as_predicted() -> None:
    prompts = Prompts()
    prompts.hide(0.5, now=1.0)
    prompts.hide(0.5, now=1.0)
    assert prompts.wait(1.2) == pytest.approx(0.8)
    assert prompts.wait(3.0) == 0.0


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 5), st.floats(0.01, 5), st.integers(1, 2000)), min_size=1, max_size=12)
)
def test_streams_see_the_mean_batch_of_their_life(lives: list[tuple[float, float, int]]) -> None:
    """Against the definition, summed up over every moment."""
    streams, spans = Streams(tpot=1e9), [(start, start + length, tokens) for start, length, tokens in lives]
    begins = [(begin, 0, i) for i, (begin, _, _) in enumerate(spans)]
    ends = [(end, 1, i) for i, (_, end, _) in enumerate(spans)]
    begun = {}
    for at, over, index in sorted(begins + ends):
        if not over:
            begun[index] = streams.begin(spans[index][2], at)
            continue
        seen = streams.end(begun[index], at)
        assert seen is not None
        a, b, _ = spans[index]
        overlaps = [(max(0.0, min(b, y) - max(a, x)), tokens) for x, y, tokens in spans]
        assert seen.batch == pytest.approx(sum(o for o, _ in overlaps) / (b - a))
        assert seen.kv_tokens == pytest.approx(sum(o * t for o, t in overlaps) / (b - a), rel=1e-6, abs=1e-3)
    assert (streams.batch, streams.prompt_tokens) == (0, 0)


def test_contexts_grow_while_streams_run() -> None:
    streams = Streams(tpot=0.01)
    streams.begin(100, 0.0)
    streams.begin(100, 1.0)
    assert streams.kv_tokens(2.0) == pytest.approx(200 + 200 + 100)


def test_lengths_are_judged_by_their_kind_then_by_the_model_and_never_beyond_the_limit() -> None:
    lengths, random = OutputLengths(), Random(1)
    chat, code = request(service_class="chat"), request(service_class="code")
    assert lengths.expected(request(max_tokens=40)) == (40, 40)
    for _ in range(200):
        lengths.observe(chat, random.randint(100, 200))
        lengths.observe(code, random.randint(5, 15))
    assert 140 < lengths.expected(chat).mean < 160
    assert 180 < lengths.expected(chat).p90 <= 200
    assert lengths.expected(code).p90 <= 15
    assert lengths.expected(request(service_class="new")).p90 > 100
    assert lengths.expected(request(service_class="new", max_tokens=50)) == (50, 50)


def test_old_lengths_are_forgotten() -> None:
    lengths, asked = OutputLengths(), request()
    for _ in range(ENOUGH):
        lengths.observe(asked, 1000)
    for _ in range(WINDOW):
        lengths.observe(asked, 10)
    assert lengths.expected(asked) == (10, 10)


def test_tokens_of_a_body_are_learned() -> None:
    estimates, random = TokenEstimates(), Random(1)
    assert estimates.estimate("m", 4000) is None
    for _ in range(1000):
        size = random.randint(200, 20_000)
        estimates.observe("m", size, round(30 + size / 3.2 * random.gauss(1, 0.05)))
    assert estimates.estimate("m", 4000) == pytest.approx(30 + 4000 / 3.2, rel=0.05)
    assert estimates.estimate("other", 4000) is None


def test_hits_that_were_expected_and_did_not_come_are_expected_less() -> None:
    hits = HitRates()
    assert hits.cached(1000, 800) == 800
    for _ in range(200):
        hits.observe(1000, 800, 200)
    assert hits.cached(1000, 800) == pytest.approx(200, abs=5)
    assert hits.cached(10, 10) <= 9


def test_the_median_error_is_of_the_last_predictions() -> None:
    accuracy = Accuracy()
    assert accuracy.median is None
    for _ in range(1000):
        accuracy.observe(2.0, 1.0)
    for _ in range(512):
        accuracy.observe(1.1, 1.0)
    assert accuracy.median == pytest.approx(0.1)
