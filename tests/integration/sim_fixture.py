"""The stand-in gateway for tests: in this event loop (`running_sim`) or as a process of its own (`sim_process`)."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from ib_async import IB, StartupFetchNONE

from ibsim.contracts import KNOWN
from ibsim.gateway import Settings
from ibsim.server import Ports, Stand

PATIENCE = 5.0
"""Seconds that a test waits for a condition before it fails."""


async def until(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Waits until the condition holds; fails the test, naming it, when it does not in time."""
    loop = asyncio.get_running_loop()
    end = loop.time() + patience
    while not condition():
        if loop.time() > end:
            pytest.fail(f"in {patience} s it did not come to: {what}")
        await asyncio.sleep(0.005)


async def until_answer(sim: "Sim", path: str, condition: Callable[[Any], object]) -> None:
    """Waits until the control port's answer fulfils the condition; fails the test with the last answer if it never does."""
    loop = asyncio.get_running_loop()
    end = loop.time() + PATIENCE
    answer = await sim.call("GET", path)
    while not condition(answer):
        if loop.time() > end:
            pytest.fail(f"{path} stayed {answer}")
        await asyncio.sleep(0.01)
        answer = await sim.call("GET", path)


async def until_entries(sim: "Sim", kind: str, count: int) -> list[dict[str, Any]]:
    """Waits until the journal has so many entries of a kind, and returns them; fails the test if that never comes."""
    loop = asyncio.get_running_loop()
    end = loop.time() + PATIENCE
    while len(entries := await sim.journal(kind)) < count:
        if loop.time() > end:
            pytest.fail(f"the journal has {len(entries)} entries of kind {kind}, not {count}")
        await asyncio.sleep(0.01)
    return entries


def errors_of(ib: IB) -> list[tuple[int, int]]:
    """The errors that this client hears from now on, as (request or order id, code)."""
    errors: list[tuple[int, int]] = []
    ib.errorEvent += lambda about, code, *_: errors.append((about, code))
    return errors


class Sim:
    """Where a stand-in listens, and its control port."""

    def __init__(self, port: int, control_port: int, http: aiohttp.ClientSession) -> None:
        self.port = port
        self.control = f"http://127.0.0.1:{control_port}"
        self.process: asyncio.subprocess.Process | None = None
        """The stand-in's process, None if it runs in this event loop."""
        self.stand: Stand | None = None
        """The stand-in in this event loop, None if it is a process."""
        self._http = http
        self._clients: list[IB] = []

    async def client(self, client_id: int = 1, **kwargs: Any) -> IB:
        """A connected ib_async client; disconnected when the test ends."""
        ib = IB()
        ib.RaiseRequestErrors = True
        self._clients.append(ib)
        kwargs.setdefault("fetchFields", StartupFetchNONE)
        await ib.connectAsync("127.0.0.1", self.port, client_id, timeout=3, raiseSyncErrors=True, **kwargs)
        return ib

    async def call(self, method: str, path: str, body: object = None, status: int = 200) -> Any:
        """One control call; fails unless the answer has this status."""
        async with self._http.request(method, self.control + path, json=body) as answer:
            text = await answer.text()
            assert answer.status == status, f"{method} {path}: {answer.status} {text}"
            return json.loads(text)

    async def journal(self, kind: str | None = None, after: int = 0) -> list[dict[str, Any]]:
        """The journal's entries, of one kind or all."""
        entries: list[dict[str, Any]] = (await self.call("GET", f"/journal?after={after}"))["entries"]
        return [entry for entry in entries if kind in (None, entry["kind"])]

    async def fault(self, name: str, **parameters: object) -> None:
        """Breaks something."""
        await self.call("POST", f"/faults/{name}", parameters)

    async def mend(self, name: str) -> None:
        """Mends it."""
        await self.call("DELETE", f"/faults/{name}")

    async def end(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Sends the stand-in's process this signal and waits for its end; returns its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()

    def hang_up(self) -> None:
        """Disconnects every client."""
        for ib in self._clients:
            ib.disconnect()


@contextlib.asynccontextmanager
async def running_sim(**settings: Any) -> AsyncIterator[Sim]:
    """A stand-in in this event loop, on free ports."""
    async with (
        Stand(Ports(port=0, control=0), Settings(**settings), list(KNOWN)) as stand,
        aiohttp.ClientSession() as http,
    ):
        sim = Sim(stand.port, stand.control_port, http)
        sim.stand = stand
        try:
            yield sim
        finally:
            sim.hang_up()


@contextlib.asynccontextmanager
async def sim_process(*options: str | Path) -> AsyncIterator[Sim]:
    """A stand-in as a process of its own on free ports; killed at the end, if it still lives."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ibsim", "--port", "0", "--control-port", "0", *map(str, options),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        ready = json.loads(await asyncio.wait_for(process.stdout.readline(), 10))
        async with aiohttp.ClientSession() as http:
            sim = Sim(ready["port"], ready["control"], http)
            sim.process = process
            try:
                yield sim
            finally:
                sim.hang_up()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@dataclass(frozen=True, slots=True)
class SimChild:
    """Where a stand-in listens that lives as a child of a test without an event loop."""

    port: int
    control: str


@contextlib.contextmanager
def sim_child(*options: str) -> Iterator[SimChild]:
    """A stand-in as a process of its own on free ports, for tests that are not asynchronous; killed at the end."""
    command = [sys.executable, "-m", "ibsim", "--port", "0", "--control-port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            yield SimChild(ready["port"], f"http://127.0.0.1:{ready['control']}")
        finally:
            process.kill()
