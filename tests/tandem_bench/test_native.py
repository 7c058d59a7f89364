"""The mock engine and the load generator agree with each other on what happened."""

import json
import re
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

Programs = dict[str, Path]
ROLES = ("regular", "prefill", "decode")


class Engines:
    """Mock engines of each role, and a load generator for them."""

    def __init__(self, programs: Programs, ports: dict[str, int]) -> None:
        self._load, self.ports = programs["load_generator"], ports

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['regular']}{path}", timeout=5) as answer:
            return json.load(answer)

    def post(self, role: str, body: dict[str, Any], path: str = "/v1/completions") -> str:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.ports[role]}{path}", json.dumps(body).encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            return bytes(answer.read()).decode()

    def load(self, role: str = "regular", **options: Any) -> dict[str, Any]:
        words = [f"{name}={value}" for name, value in ({"port": self.ports[role]} | options).items()]
        done = subprocess.run([self._load, *words], capture_output=True, text=True, timeout=20, check=True)
        return dict(json.loads(done.stdout))

    def settled(self, role: str, aborts: int) -> dict[str, int]:
        """The counters of a role once it has seen so many aborts, or after a while."""
        for _ in range(100):
            counters: dict[str, int] = self.get("/mock/stats")[role]
            if counters["aborts"] >= aborts:
                break
            time.sleep(0.02)
        return counters


def _free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return int(chosen.getsockname()[1])


@pytest.fixture
def engines(programs: Programs) -> Iterator[Engines]:
    ports = {role: _free_port() for role in ROLES}
    words = [f"{port}:{role}" for role, port in ports.items()]
    with subprocess.Popen([programs["mock_engine"], *words]) as process:
        made = Engines(programs, ports)
        for _ in range(100):
            try:
                made.get("/mock/stats")
                break
            except OSError:
                time.sleep(0.02)
        yield made
        process.kill()


def test_whole_answers_are_counted_alike_on_both_sides(engines: Engines) -> None:
    seen = engines.load(clients=4, seconds=0.2, warm_up=0)
    counters = engines.get("/mock/stats")["regular"]
    assert seen["requests"] > 100
    assert 0 <= counters["requests"] - seen["requests"] <= 4
    assert (seen["errors"], seen["refused"]) == (0, 0)
    assert 0 < seen["transit"]["p50"] <= seen["latency"]["p50"] < 100_000


def test_streams_have_their_tokens_at_the_engine_s_pace(engines: Engines) -> None:
    engines.get("/mock/config?itl_us=10000")
    seen = engines.load(mode="stream", clients=3, tokens=8, seconds=0.4, warm_up=0)
    assert seen["requests"] >= 3
    assert seen["short_streams"] == 0
    assert seen["gap"]["p50"] == pytest.approx(10_000, rel=0.2)
    assert seen["latency"]["p50"] >= 70_000


def test_in_engine_steps_tokens_leave_at_multiples_of_the_step(engines: Engines) -> None:
    engines.get("/mock/config?itl_us=50000&steps=1")
    text = engines.post("regular", {"max_tokens": 3, "stream": True})
    stamps = [int(found, 16) for found in re.findall("@@([0-9a-f]{16})", text)]
    late = [stamp % 50_000_000 for stamp in stamps]
    assert len(late) == 3
    assert sum(late) < 3 * 15_000_000


def test_a_large_prompt_arrives_whole(engines: Engines) -> None:
    seen = engines.load(clients=2, prompt=1_048_576, seconds=0.2, warm_up=0)
    assert seen["requests"] >= 2
    assert seen["errors"] == 0


def test_clients_that_leave_a_silent_stream_are_seen(engines: Engines) -> None:
    engines.get("/mock/config?itl_us=600000000")
    seen = engines.load(mode="idle", clients=20, seconds=0.05)
    assert seen["with_first"] == 20
    assert engines.settled("regular", 20)["aborts"] == 20


def test_clients_that_leave_during_prefill_are_seen(engines: Engines) -> None:
    engines.get("/mock/config?prefill_us=600000000")
    engines.load("prefill", mode="leave", clients=20, seconds=0.05, warm_up=0.05)
    assert engines.settled("prefill", 20)["aborts"] == 20


def test_a_reader_that_stops_stops_the_engine(engines: Engines) -> None:
    engines.load(mode="slow", clients=1, tokens=1_000_000, seconds=0.3)
    assert engines.settled("regular", 1)["chunks"] < 100_000


def test_the_hand_over_has_vllm_s_fields(engines: Engines) -> None:
    asked = {"do_remote_decode": True, "do_remote_prefill": False}
    answer = json.loads(engines.post("prefill", {"max_tokens": 9, "kv_transfer_params": asked}))
    assert answer["usage"]["completion_tokens"] == 1
    params = answer["kv_transfer_params"]
    assert params["do_remote_prefill"] is True
    engines.post("decode", {"max_tokens": 3, "kv_transfer_params": params})
    engines.post("decode", {"max_tokens": 3})
    assert engines.get("/mock/stats")["decode"]["handovers"] == 1


def test_a_chunked_request_body_is_understood(engines: Engines) -> None:
    with socket.create_connection(("127.0.0.1", engines.ports["regular"]), timeout=5) as client:
        body = b'{"max_tokens":1}'
        client.sendall(
            b"POST /v1/completions HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
            + b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (4, body[:4], len(body) - 4, body[4:])
        )
        assert b'"completion_tokens":1' in client.recv(65536)


def test_the_stream_ends_as_vllm_s_does(engines: Engines) -> None:
    body = {"max_tokens": 2, "stream": True, "stream_options": {"include_usage": True}}
    events = engines.post("regular", body, "/v1/chat/completions").split("\n\n")
    usage = json.loads(events[2].removeprefix("data: "))
    assert [e for e in events if "@@" in e] == events[:2]
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 2)
    assert events[3:] == ["data: [DONE]", ""]


def test_nobody_listening_is_an_error_and_no_wait(programs: Programs) -> None:
    seen = Engines(programs, {"regular": _free_port()}).load(clients=2, seconds=5)
    assert (seen["requests"], seen["errors"]) == (0, 2)
