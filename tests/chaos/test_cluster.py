"""What the faults rest on: a cut is a cut, each way by itself, and whatever happens nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_asyncio

from ha.local.parts import Part
from ha.local.process import Child, Spec, spawn
from tests.chaos import namespaces
from tests.chaos.links import Links, Way
from tests.chaos.namespaces import Network
from tests.chaos.parts import ROOT, lacking, links_part, needed_parts
from tests.integration.etcd_fixture import free_ports

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(60)]
QUIET = 0.3  # seconds in which nothing may come


class Echo:
    """A server that says everything twice, behind one link; `ask` sends a line and reads what came of it."""

    def __init__(self, links: Links, port: int) -> None:
        self.links, self.heard = links, bytearray()
        self._port = port

    async def connect(self) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)

    async def ask(self, line: bytes) -> bytes | None:
        """The answer, None when none comes."""
        self.writer.write(line + b"\n")
        try:
            async with asyncio.timeout(QUIET):
                return (await self.reader.readline()).strip()
        except TimeoutError:
            return None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            self.heard += line
            writer.write(line.strip() * 2 + b"\n")
        writer.close()


async def up(part: Part) -> Child:
    child = spawn(part.spec())
    async with asyncio.timeout(10):
        while not await part.ready(child):
            assert child.code is None, child.last_lines()
            await asyncio.sleep(0.01)
    return child


@pytest_asyncio.fixture
async def echo(tmp_path: Path) -> AsyncIterator[Echo]:
    if (reason := needed_parts()) is not None:
        lacking(reason)
    api, here, there = free_ports(3)
    (tmp_path / "log").mkdir()
    child = await up(links_part(tmp_path, dict(os.environ), api, {"one": (f"127.0.0.1:{here}", f"127.0.0.1:{there}")}))
    echo = Echo(Links(api, ["one"]), here)
    try:
        async with await asyncio.start_server(echo.serve, "127.0.0.1", there):
            await echo.connect()
            assert await echo.ask(b"whole") == b"wholewhole"
            yield echo
            echo.writer.close()
            await child.stop()
    finally:
        if child.code is None:
            await child.stop()


async def test_a_link_cut_on_the_way_there_carries_no_question(echo: Echo) -> None:
    await echo.links.cut(["one"], [Way.THERE])
    assert await echo.links.broken() == {"one": ["timeout upstream"]}
    assert await echo.ask(b"lost") is None
    assert b"lost" not in echo.heard


async def test_a_link_cut_on_the_way_back_carries_the_question_and_no_answer(echo: Echo) -> None:
    await echo.links.cut(["one"], [Way.BACK])
    assert await echo.ask(b"heard") is None
    assert b"heard" in echo.heard


async def test_a_mended_link_is_whole_for_whoever_dials_again(echo: Echo) -> None:
    await echo.links.cut(["one"])
    assert await echo.ask(b"lost") is None
    await echo.links.refuse(["one"])
    with pytest.raises(ConnectionRefusedError):
        await echo.connect()
    await echo.links.mend()
    assert await echo.links.broken() == {}
    await echo.connect()
    assert await echo.ask(b"again") == b"againagain"


async def test_a_slow_link_takes_its_time_each_way(echo: Echo) -> None:
    await echo.links.slow(["one"], 60)
    began = time.monotonic()
    assert await echo.ask(b"slow") == b"slowslow"
    assert time.monotonic() - began > 0.1


def test_a_link_that_does_not_exist_is_no_link() -> None:
    with pytest.raises(LookupError, match="no link begins"):
        Links(1, ["a-e1"]).of("c-")


# ---- hosts


@pytest_asyncio.fixture
async def network(tmp_path: Path) -> AsyncIterator[Network]:
    if (reason := namespaces.why_not()) is not None:
        lacking(reason)
    (tmp_path / "log").mkdir()
    network, children = Network(tmp_path, ("x", "y")), list[Child]()
    try:
        for part in network.holders(dict(os.environ)):
            children.append(await up(part))
        network.wire()
        yield network
    finally:
        for child in children:
            await child.stop((signal.SIGKILL, 2.0))
    end = time.monotonic() + 5
    while f"{network.here}/" in addresses():
        assert time.monotonic() < end, "our end of the cable is still there"
        await asyncio.sleep(0.01)


async def server_on(network: Network, host: str, directory: Path) -> Child:
    """Something that listens on port 8080 of that host."""
    argv = (sys.executable, "-m", "http.server", "8080", "--bind", network.address(host))
    child = spawn(network.on(host, Spec(f"server-{host}", argv, dict(os.environ), directory, directory / "server.log")))
    async with asyncio.timeout(10):
        while not answers(network.address(host)):
            assert child.code is None, child.last_lines()
            await asyncio.sleep(0.02)
    return child


def answers(address: str) -> bool:
    try:
        with socket.create_connection((address, 8080), timeout=QUIET) as asked:
            asked.settimeout(QUIET)
            asked.sendall(b"HEAD / HTTP/1.0\r\n\r\n")
            return asked.recv(4) == b"HTTP"
    except OSError:
        return False


async def test_a_host_without_its_cable_is_reached_by_nobody_until_it_is_back(network: Network, tmp_path: Path) -> None:
    child = await server_on(network, "x", tmp_path)
    try:
        network.cut("x")
        assert network.is_cut("x")
        assert not network.is_cut("y")
        assert not answers(network.address("x"))
        network.mend("x")
        assert not network.is_cut("x")
        async with asyncio.timeout(5):
            while not answers(network.address("x")):
                await asyncio.sleep(0.02)
    finally:
        await child.stop()


async def test_what_a_host_sends_to_one_address_can_be_lost_and_nothing_else(network: Network, tmp_path: Path) -> None:
    child = await server_on(network, "x", tmp_path)
    try:
        network.lose("x", network.here)
        assert not answers(network.address("x"))
        network.find("x", network.here)
        async with asyncio.timeout(5):
            while not answers(network.address("x")):
                await asyncio.sleep(0.02)
    finally:
        await child.stop()


# ---- nothing is left behind

_RUN = """
import asyncio, os, sys
from pathlib import Path
from ha.local.process import spawn
from tests.chaos.namespaces import Network
async def main():
    network = Network(Path(sys.argv[1]), ("x",))
    for part in network.holders(dict(os.environ)):
        child = spawn(part.spec())
        while not await part.ready(child):
            await asyncio.sleep(0.01)
    network.wire()
    print(network.here, *(part.name for part in network.holders({})), flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


def test_a_run_that_is_killed_leaves_no_host_and_no_cable(tmp_path: Path) -> None:
    if (reason := namespaces.why_not()) is not None:
        lacking(reason)
    run = subprocess.Popen([sys.executable, "-c", _RUN, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert run.stdout is not None
        here, *_ = run.stdout.readline().split()
        assert f"{here}/" in addresses()
        assert holders(tmp_path) == 2
        run.kill()
        run.wait()
        end = time.monotonic() + 10
        while holders(tmp_path) or f"{here}/" in addresses():
            assert time.monotonic() < end, f"left: {holders(tmp_path)} hosts, {addresses()}"
            time.sleep(0.02)
    finally:
        run.kill()
        run.wait()


def addresses() -> str:
    return subprocess.run(["ip", "-4", "-o", "addr"], capture_output=True, text=True, check=True).stdout


def holders(place: Path) -> int:
    """How many living processes work in this directory."""
    found = 0
    for entry in Path("/proc").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if entry.name.isdigit() and os.readlink(entry / "cwd") == str(place):
                found += (entry / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return found
