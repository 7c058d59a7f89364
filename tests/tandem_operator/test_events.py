"""Events: repeats are counted, floods are cut."""

from tandem_operator.conditions import Notice
from tandem_operator.events import BURST, MAX_REMEMBERED, REFILL_SECONDS, EventLog, Subject

SUBJECT = Subject("tandemserve.dev/v1alpha1", "LLMService", "default", "chat", "uid-1")
OTHER = Subject("tandemserve.dev/v1alpha1", "LLMService", "default", "code", "uid-2")
NOTICE = Notice("Warning", "InvalidSpec", "spec.pools: wrong")


def test_an_event_names_its_object_and_says_what_happened() -> None:
    event = EventLog().record(SUBJECT, NOTICE, 60.0)
    assert event is not None
    assert event["involvedObject"]["uid"] == "uid-1"
    assert (event["type"], event["reason"], event["message"]) == (
        "Warning",
        "InvalidSpec",
        "spec.pools: wrong",
    )
    assert event["firstTimestamp"] == event["lastTimestamp"] == "1970-01-01T00:01:00Z"
    assert event["metadata"]["namespace"] == "default"


def test_a_repeat_counts_up_the_first() -> None:
    log = EventLog()
    first, second = log.record(SUBJECT, NOTICE, 0.0), log.record(SUBJECT, NOTICE, 300.0)
    assert first is not None
    assert second is not None
    assert second["metadata"]["name"] == first["metadata"]["name"]
    assert (first["count"], second["count"]) == (1, 2)
    assert second["firstTimestamp"] == first["firstTimestamp"] != second["lastTimestamp"]


def test_after_ten_quiet_minutes_it_is_a_new_event() -> None:
    log = EventLog()
    first, second = log.record(SUBJECT, NOTICE, 0.0), log.record(SUBJECT, NOTICE, 601.0)
    assert first is not None
    assert second is not None
    assert second["metadata"]["name"] != first["metadata"]["name"]
    assert second["count"] == 1


def test_one_object_cannot_flood_the_api_server_and_others_go_on() -> None:
    log = EventLog()
    written = [log.record(SUBJECT, Notice("Normal", "X", str(number)), 0.0) for number in range(100)]
    assert sum(event is not None for event in written) == BURST
    assert log.record(OTHER, NOTICE, 0.0) is not None
    assert log.record(SUBJECT, NOTICE, REFILL_SECONDS) is not None
    assert log.record(SUBJECT, NOTICE, REFILL_SECONDS) is None


def test_memory_is_bounded() -> None:
    log = EventLog()
    for number in range(MAX_REMEMBERED + 50):
        subject = Subject("v1", "LLMService", "default", f"s{number}", f"uid-{number}")
        log.record(subject, NOTICE, float(number))
    assert len(log._known) == len(log._buckets) == MAX_REMEMBERED
