import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tandem_operator.api import LLMService, Manifest
from tandem_operator.local.addresses import ROUTER
from tandem_operator.local.fleet import Fleet, StartError, thread_limits
from tandem_operator.local.source import deployments
from tandem_operator.local.target import LocalTarget
from tandem_operator.scaling import ScalingDecision
from tandem_operator.validation import load_service

STANDIN = Path(__file__).with_name("standin_process.py")


def free_port() -> int:
    """A port that is free on the router's address and, very likely, on the workers'."""
    with socket.create_server((ROUTER, 0)) as server:
        return int(server.getsockname()[1])


def service() -> LLMService:
    pools = [{"name": role, "role": role, "replicas": 2} for role in ("prefill", "decode")]
    spec = {"model": {"name": "m", "source": {"path": "m"}}, "pools": pools, "router": {"port": free_port()}}
    head = {"apiVersion": "tandemserve.dev/v1alpha1", "kind": "LLMService", "metadata": {"name": "demo"}}
    return load_service({**head, "spec": spec})


class Place:
    """A fleet of stand-ins in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.service = service()
        self.deployments = deployments(self.service)
        self.lines: list[str] = []
        port = free_port()
        for deployment in (self.deployments.router, *self.deployments.pools.values()):
            self.container(deployment)["command"] = [sys.executable, "-I", str(STANDIN)]
            self.set_env(deployment, "STANDIN_TRACE", str(folder / "trace"))
        for deployment in self.deployments.pools.values():
            container = self.container(deployment)
            container["args"] = ["--host", "$(POD_IP)", "--port", str(port)]
            container["ports"] = [{"name": "http", "containerPort": port}]

    def container(self, deployment: Manifest) -> dict[str, Any]:
        container: dict[str, Any] = deployment["spec"]["template"]["spec"]["containers"][0]
        return container

    def set_env(self, deployment: Manifest, name: str, value: str) -> None:
        self.container(deployment)["env"].append({"name": name, "value": value})

    def endpoints(self) -> dict[str, bool]:
        file = json.loads((self.folder / "endpoints.json").read_text())
        return {endpoint["name"]: endpoint["ready"] for endpoint in file["endpoints"]}

    def trace(self) -> list[tuple[str, str, int]]:
        """Name, event and pid of what happened."""
        lines = [line.split() for line in (self.folder / "trace").read_text().splitlines()]
        return [(name, event, int(pid)) for name, event, pid in lines]

    @asynccontextmanager
    async def fleet(self) -> AsyncIterator[Fleet]:
        async with aiohttp.ClientSession() as session:
            fleet = Fleet(self.deployments, "m", self.folder, session, self.lines.append)
            try:
                yield fleet
            finally:
                await fleet.stop(5)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not condition():  # noqa: ASYNC110 - files and processes send no events
            await asyncio.sleep(0.02)


async def answer(fleet: Fleet, number: int, path: str = "/readyz") -> list[str]:
    """What a process says of itself: pid and arguments."""
    spec = fleet.processes[number].spec
    url = f"http://{spec.address}:{spec.ports['http']}{path}"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return (await response.text()).split()


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:1]
    except FileNotFoundError:
        return False


async def test_everything_starts_at_once_and_leaves_nothing_behind(place: Place) -> None:
    async with place.fleet() as fleet:
        fleet.start()
        assert place.endpoints() == {f"demo-{p}-{n}": False for p in ("prefill", "decode") for n in (0, 1)}
        async with asyncio.timeout(20):
            await fleet.ready()
        assert all(place.endpoints().values())
        answers = [await answer(fleet, number) for number in range(5)]
        assert len({(words[2], words[4]) for words in answers}) == 5
        pids = [int(words[0]) for words in answers]
        assert all(map(alive, pids))
    assert not any(map(alive, pids))
    assert sorted(event for _, event, _ in place.trace()) == ["ended"] * 5 + ["started"] * 5 + ["told"] * 5
    assert sum("is ready at http://127.0." in line for line in place.lines) == 5


async def test_a_process_that_ends_is_started_again(place: Place) -> None:
    async with place.fleet() as fleet:
        fleet.start()
        await fleet.ready()
        with pytest.raises(aiohttp.ClientError):
            await answer(fleet, 1, "/crash")
        await until(lambda: place.endpoints()["demo-prefill-0"] is False)
        await until(lambda: place.endpoints()["demo-prefill-0"])
        os.kill(int((await answer(fleet, 1))[0]), signal.SIGKILL)
        await until(lambda: place.endpoints()["demo-prefill-0"] is False)
    assert "demo-prefill-0 ended with status 7; it will be started again" in place.lines
    assert "demo-prefill-0 was ended by signal 9 (Killed); it will be started again" in place.lines


async def test_a_process_that_cannot_start_fails_the_start_with_its_last_words(place: Place) -> None:
    place.set_env(place.deployments.pools["decode"], "STANDIN_FAIL", "no such model: m")
    async with place.fleet() as fleet:
        fleet.start()
        async with asyncio.timeout(15):
            with pytest.raises(StartError, match=r"demo-decode-[01] ended with status 1: no such model: m"):
                await fleet.ready()
    assert not any("started again" in line for line in place.lines)


async def test_a_missing_program_fails_the_start_and_is_named(place: Place) -> None:
    place.container(place.deployments.router)["command"] = ["no-such-program"]
    async with place.fleet() as fleet:
        fleet.start()
        async with asyncio.timeout(15):
            with pytest.raises(StartError, match="cannot run no-such-program: No such file or directory"):
                await fleet.ready()


async def test_scaling_adds_workers_and_lets_the_newest_drain_before_they_end(place: Place) -> None:
    place.set_env(place.deployments.pools["decode"], "STANDIN_DRAIN", "0.5")
    async with place.fleet() as fleet:
        fleet.start()
        await fleet.ready()
        target = LocalTarget(place.service, fleet, place.lines.append)
        await target.enact(ScalingDecision("KvUsage", "decode 2 -> 3: why", {"decode": 3}))
        states = {pool.name: (pool.replicas, pool.ready) for pool in await target.pools()}
        assert states == {"prefill": (2, 2), "decode": (3, 2)}
        await fleet.ready()
        assert place.endpoints()["demo-decode-2"]
        assert len(await target.sources()) == 6
        leaving = int((await answer(fleet, 5))[0])

        loop = asyncio.get_running_loop()
        told = loop.time()
        await target.enact(ScalingDecision("Surplus", "decode 3 -> 1: why", {"decode": 1}))
        assert "demo-decode-2" not in place.endpoints()
        assert alive(leaving)
        await until(lambda: "demo-decode-2 has left" in place.lines)
        assert loop.time() - told > 1.0 + 0.5
        assert not alive(leaving)
        assert list(place.endpoints()) == ["demo-prefill-0", "demo-prefill-1", "demo-decode-0"]
    assert ("demo-decode-2", "ended") in [(name, event) for name, event, _ in place.trace()]
    assert "planner: decode 2 -> 3: why" in place.lines


async def test_a_process_that_does_not_end_is_killed_in_time(place: Place) -> None:
    place.set_env(place.deployments.router, "STANDIN_DRAIN", "60")
    async with place.fleet() as fleet:
        fleet.start()
        await fleet.ready()
        pid = int((await answer(fleet, 0))[0])
        async with asyncio.timeout(5):
            await fleet.stop(0.5)
        assert not alive(pid)


async def test_two_fleets_run_side_by_side(place: Place, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Place(tmp_path / "other")
    for name, deployment in other.deployments.pools.items():
        original = place.container(place.deployments.pools[name])
        other.container(deployment).update(args=original["args"], ports=original["ports"])
    async with place.fleet() as first, other.fleet() as second:
        first.start()
        await first.ready()
        second.start()
        async with asyncio.timeout(15):
            await second.ready()
        taken = [process.spec.address for fleet in (first, second) for process in fleet.processes[1:]]
        assert len(set(taken)) == 8


PARENT = """
import asyncio, json, sys
from pathlib import Path
import aiohttp
from tandem_operator.local.fleet import Fleet
from tandem_operator.local.source import Deployments

async def main():
    plan = json.loads(Path(sys.argv[1], "plan.json").read_text())
    async with aiohttp.ClientSession() as session:
        fleet = Fleet(Deployments(plan["router"], plan["pools"]), "m", Path(sys.argv[1]), session, print)
        fleet.start()
        await fleet.ready()
        print("all are ready", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills children with their parent")
async def test_nothing_survives_a_parent_that_is_killed(place: Place) -> None:
    plan = {"router": place.deployments.router, "pools": dict(place.deployments.pools)}
    (place.folder / "plan.json").write_text(json.dumps(plan))
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(place.folder), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    line = b""
    async with asyncio.timeout(20):
        while line != b"all are ready\n":
            line = await parent.stdout.readline()
            assert line, "it ended before it was ready"
    pids = [pid for _, event, pid in place.trace() if event == "started"]
    assert len(pids) == 5
    assert all(map(alive, pids))
    os.kill(parent.pid, signal.SIGKILL)
    await parent.wait()
    await until(lambda: not any(map(alive, pids)))


def test_workers_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert thread_limits(4)["OMP_NUM_THREADS"] == "2"
    assert thread_limits(100)["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    assert thread_limits(4)["OMP_NUM_THREADS"] == "6"
