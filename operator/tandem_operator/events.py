"""Kubernetes Events: repeats are counted, floods are cut, memory is bounded. Pure; time is an argument."""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import TypeVar

from tandem_operator.api import Manifest
from tandem_operator.conditions import Notice, timestamp
from tandem_operator.desired.names import MANAGER

REPEAT_SECONDS = 600.0
BURST = 20
REFILL_SECONDS = 15.0
MAX_REMEMBERED = 2000

Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Subject:
    """The object that an Event is about."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str

    @classmethod
    def of(cls, manifest: Manifest) -> "Subject":
        meta = manifest["metadata"]
        return cls(manifest["apiVersion"], manifest["kind"], meta["namespace"], meta["name"], meta["uid"])


@dataclass(slots=True)
class _Known:
    name: str
    first: float
    last: float
    count: int = 1


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float


class EventLog:
    """Turns notices into Events. One that repeats within ten minutes only raises the count."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, Notice], _Known] = OrderedDict()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def record(self, subject: Subject, notice: Notice, now: float) -> Manifest | None:
        """The Event to write, by name; None when this object has had too many lately."""
        if not self._allowed(subject.uid, now):
            return None
        key = (subject.uid, notice)
        known = self._known.get(key)
        if known is None or now - known.last > REPEAT_SECONDS:
            known = self._known[key] = _Known(_name(subject, notice, now), now, now)
        else:
            known.count, known.last = known.count + 1, now
        _remember(self._known, key)
        return _event(subject, notice, known)

    def _allowed(self, uid: str, now: float) -> bool:
        bucket = self._buckets.setdefault(uid, _Bucket(BURST, now))
        _remember(self._buckets, uid)
        bucket.tokens = min(BURST, bucket.tokens + (now - bucket.filled_at) / REFILL_SECONDS)
        bucket.filled_at = now
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True


def _remember(table: OrderedDict[Key, Value], key: Key) -> None:
    table.move_to_end(key)
    while len(table) > MAX_REMEMBERED:
        table.popitem(last=False)


def _name(subject: Subject, notice: Notice, now: float) -> str:
    text = f"{subject.uid} {notice.reason} {notice.message} {now}"
    return f"{subject.name}.{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _event(subject: Subject, notice: Notice, known: _Known) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": known.name, "namespace": subject.namespace},
        "involvedObject": {
            "apiVersion": subject.api_version,
            "kind": subject.kind,
            "namespace": subject.namespace,
            "name": subject.name,
            "uid": subject.uid,
        },
        "type": notice.type,
        "reason": notice.reason,
        "message": notice.message[:1024],
        "source": {"component": MANAGER},
        "firstTimestamp": timestamp(known.first),
        "lastTimestamp": timestamp(known.last),
        "count": known.count,
    }
