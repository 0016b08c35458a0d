"""The launcher in systemd's place: who falls silent is killed, and nobody else."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.clock import boottime
from ha.demo.fetch import Fetch, FetchFailed
from ha.local import watchdog
from ha.local.pair import LocalPair
from ha.local.ports import Ports
from ha.local.process import Child, Spec, spawn
from ha.local.supervise import Event
from ha.local.watchdog import Watchdog

# Ready at once, then as many signs of life as it is told to give, a tenth of a second apart; then it hangs.
_PROGRAM = """
    import os, socket, sys, time
    address = os.environ["NOTIFY_SOCKET"]
    systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    systemd.connect(chr(0) + address[1:] if address.startswith("@") else address)
    assert os.environ["WATCHDOG_USEC"] == "600000"
    print(address, flush=True)
    if sys.argv[1] != "unready":
        systemd.send(b"READY=1" + bytes([10]) + b"STATUS=here")
    for _ in range(int(sys.argv[2])):
        time.sleep(0.1)
        systemd.send(b"WATCHDOG=1")
    if sys.argv[1] == "stopping":
        systemd.send(b"STOPPING=1")
        systemd.send(b"WATCHDOG=1")
    time.sleep(60)
"""


class Watched:
    """A child under the watchdog, and what became of it."""

    def __init__(self, place: Path) -> None:
        self.silent: list[tuple[int, str]] = []
        self.watchdog = Watchdog(place / "run", self._killed)
        self._program = place / "program.py"
        self._place = place
        self._children: list[Child] = []
        self._program.write_text(textwrap.dedent(_PROGRAM))

    def start(self, *arguments: str) -> Child:
        env = {"PATH": os.environ["PATH"], "WATCHDOG": "0.6"}
        argv = (sys.executable, "-I", "-S", str(self._program), *arguments)
        spec = Spec("x", argv, env | self.watchdog.open(env), self._place, self._place / "log")
        child = spawn(spec, lambda _: self.watchdog.close())
        self.watchdog.attach(child)
        self._children.append(child)
        return child

    def _killed(self, child: Child, why: str) -> None:
        self.silent.append((child.pid, why))
        child.send(signal.SIGKILL)

    async def stop(self) -> None:
        for child in self._children:
            if child.code is None:
                await child.stop()
        self.watchdog.close()


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    made = Watched(tmp_path)
    yield made
    await made.stop()


async def started(child: Child) -> float:
    """Seconds of life after which the program had said its first word."""
    async with asyncio.timeout(10):
        while not child.last_lines():
            await asyncio.sleep(0.01)
    return asyncio.get_running_loop().time()


@pytest.mark.rule(12)
async def test_who_gives_no_sign_for_the_interval_is_killed_once(watched: Watched) -> None:
    child = watched.start("ready", "5")
    began = await started(child)
    assert await asyncio.wait_for(child.wait(), 10) == -signal.SIGKILL
    lived = asyncio.get_running_loop().time() - began
    [(pid, why)] = watched.silent
    assert pid == child.pid
    assert re.fullmatch(r"no sign of life for 0\.[67]\d s", why)
    assert 1.0 < lived < 1.6, "five signs, then the interval"
    assert not (watched.watchdog._run_dir / "notify").exists()


async def test_who_ends_by_itself_gives_no_signs_any_more_and_has_its_time_to_end(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "STOPS_WITHIN", 1.5)
    child = watched.start("stopping", "1")
    began = await started(child)
    assert await asyncio.wait_for(child.wait(), 10) == -signal.SIGKILL
    assert 1.5 < asyncio.get_running_loop().time() - began < 2.5
    [(_, why)] = watched.silent
    assert why.startswith("did not end for 1.5")


async def test_before_it_is_ready_nobody_is_killed(watched: Watched) -> None:
    child = watched.start("unready", "3")
    await started(child)
    await asyncio.sleep(1.3)
    assert child.code is None
    assert watched.silent == []


async def test_another_process_cannot_speak_for_it(watched: Watched) -> None:
    child = watched.start("ready", "0")
    await started(child)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        while child.code is None:
            try:
                stranger.sendto(b"WATCHDOG=1", child.last_lines())
            except OSError:
                break  # it has ended, and its socket with it
            await asyncio.sleep(0.02)
    assert await asyncio.wait_for(child.wait(), 5) == -signal.SIGKILL
    assert len(watched.silent) == 1


async def test_a_launcher_that_stood_still_does_not_take_that_for_silence(watched: Watched) -> None:
    child = watched.start("ready", "60")
    await started(child)
    await asyncio.sleep(0.2)
    time.sleep(1.5)  # noqa: ASYNC251 - the launcher's own hang is what is tested
    await asyncio.sleep(1)
    assert watched.silent == []
    child.send(signal.SIGSTOP)  # child and launcher both: a machine that was suspended
    time.sleep(1.5)  # noqa: ASYNC251
    child.send(signal.SIGCONT)
    await asyncio.sleep(1)
    assert watched.silent == []
    assert child.code is None


async def test_a_long_directory_gets_an_address_all_the_same_and_each_start_a_new_one(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.watchdog = Watchdog(tmp_path / ("long" * 30), watched._killed)
    try:
        first = watched.start("ready", "2")
        assert await asyncio.wait_for(first.wait(), 10) == -signal.SIGKILL
        second = watched.start("ready", "2")
        assert await asyncio.wait_for(second.wait(), 10) == -signal.SIGKILL
        addresses = (tmp_path / "log").read_text().split()
        assert len(set(addresses)) == 2
        assert all(address.startswith("@adapter-") for address in addresses)
    finally:
        await watched.stop()


# --- with real replicas -----------------------------------------------------------------------------------------------


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "pair"
    shutil.rmtree(tmp_path)  # a database is too large to keep


async def answered(fetch: Fetch, url: str, key: str) -> dict[str, Any]:
    """Place an order there until it is accepted."""
    order = {"client_order_id": key, "symbol": "AAPL", "side": "BUY", "quantity": "1", "order_type": "LMT",
             "limit_price": "1.00"}  # fmt: skip
    async with asyncio.timeout(20):
        while True:
            try:
                return await fetch.post(f"{url}/api/v1/orders", order)
            except FetchFailed:
                await asyncio.sleep(0.01)


async def sent_to(fetch: Fetch, journal: str, before: int) -> dict[str, Any]:
    """The first order that the broker took after its first `before` entries."""
    async with asyncio.timeout(20):
        while True:
            entries: list[dict[str, Any]] = (await fetch.get(journal))["entries"]
            if found := [entry for entry in entries[before:] if entry["kind"] == "order"]:
                return found[0]
            await asyncio.sleep(0.01)


@pytest.mark.rule(12)
async def test_a_frozen_leader_is_killed_and_the_other_one_leads(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events: list[Event] = []
    env = {name: value for name, value in os.environ.items() if name not in ("API_SECRET_KEY", "FAILPOINTS")}
    async with (
        LocalPair(directory, ports=Ports.free(), env=env, watchdog=True, on_event=events.append) as pair,
        Fetch() as fetch,
    ):
        leader = pair.first_leader
        other = next(replica for replica in pair.replicas if replica.name != leader)
        control = f"http://127.0.0.1:{pair.ports.control}"
        before = len((await fetch.get(f"{control}/journal"))["entries"])
        frozen_at = boottime()
        pid = await pair.kill(leader, signal.SIGSTOP)
        accepted = await answered(fetch, other.url, "after-the-freeze")
        accepted_after = boottime() - frozen_at
        sent = await sent_to(fetch, f"{control}/journal", before)
        silence = boottime() - frozen_at
        assert str(sent["order_ref"]).endswith(accepted["id"])
        [killed] = [e for e in events if e.kind == "failed" and e.at > frozen_at]
        assert (killed.part, killed.pid) == (leader, pid)
        assert killed.detail.startswith("watchdog: no sign of life for 1.5")
        [ended] = [e for e in events if e.kind == "ended" and e.at > frozen_at]
        assert ended.detail == "killed by SIGKILL"
        with capsys.disabled():
            print(
                f"\nleader frozen: dead after {ended.at - frozen_at:.2f} s, orders accepted again after "
                f"{accepted_after:.2f} s, at the broker after {silence:.2f} s"
            )
        assert ended.at - frozen_at < 2
        async with asyncio.timeout(20):
            while (leader, "ready") not in [(e.part, e.kind) for e in events if e.at > ended.at]:
                await asyncio.sleep(0.02)
        kinds = [e.kind for e in events if e.part == leader and e.at >= killed.at]
        assert kinds == ["failed", "ended", "released", "restarted", "ready"]
        assert silence < 5


async def test_without_it_a_frozen_replica_is_left_alone(directory: Path) -> None:
    events: list[Event] = []
    async with LocalPair(directory, ports=Ports.free(), on_event=events.append) as pair:
        standby = next(replica.name for replica in pair.replicas if replica.name != pair.first_leader)
        told = len(events)
        await pair.kill(standby, signal.SIGSTOP)
        await asyncio.sleep(2.5)
        assert [event for event in events[told:] if event.part == standby] == []
        await pair.kill(standby, signal.SIGCONT)
