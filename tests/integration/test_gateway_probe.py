"""The gateway's probe against the real stand-in: what it says, and that it takes nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from ha.gateway_probe import Answers, Silent, probe
from tests.integration.etcd_fixture import free_ports
from tests.integration.sim_fixture import sim_process, until_answer

HOST = "127.0.0.1"


@pytest.mark.rule(17)
async def test_a_healthy_gateway_answers_and_its_session_is_not_disturbed():
    async with sim_process() as sim:
        leader = await sim.client(17)
        before = await sim.call("GET", "/sessions")
        for _ in range(20):
            assert await probe(HOST, sim.port, 3) == Answers(178)
        await until_answer(sim, "/sessions", lambda answer: answer == before)
        assert leader.isConnected()
        assert await leader.reqCurrentTimeAsync()
        opened = await sim.journal("session_open")
        assert [entry["client_id"] for entry in opened] == [17]
        assert not await sim.journal("session_refused")


@pytest.mark.rule(17)
async def test_no_clientid_is_taken_even_while_the_probe_is_open():
    async with sim_process() as sim:
        await sim.fault("delay", ms=700)
        probing = asyncio.create_task(probe(HOST, sim.port, 5))
        await until_answer(sim, "/sessions", lambda answer: answer["sessions"])
        (one,) = (await sim.call("GET", "/sessions"))["sessions"]
        assert one["client_id"] == -1
        assert one["state"] != "open"
        assert await probing == Answers(178)
        await until_answer(sim, "/sessions", lambda answer: not answer["sessions"])


@pytest.mark.rule(17)
async def test_a_mute_gateway_answers_so_that_nobody_hands_over_because_of_it():
    async with sim_process() as sim:
        await sim.fault("mute")
        assert await probe(HOST, sim.port, 3) == Answers(178)


@pytest.mark.rule(17)
async def test_a_frozen_gateway_is_silent_after_the_deadline_and_answers_when_it_is_back():
    async with sim_process() as sim:
        await sim.fault("freeze")
        assert await asyncio.wait_for(probe(HOST, sim.port, 0.3), 1) == Silent("no answer within 0.3 s")
        await sim.mend("freeze")
        assert await probe(HOST, sim.port, 3) == Answers(178)


@pytest.mark.rule(17)
async def test_a_gateway_that_is_down_is_silent_at_once():
    async with sim_process() as sim:
        assert await probe(HOST, sim.port, 3) == Answers(178)
        await sim.end()
        answer = await asyncio.wait_for(probe(HOST, sim.port, 3), 1)
        assert isinstance(answer, Silent)
        assert "refused" in answer.reason.lower()


@contextlib.asynccontextmanager
async def says(data: bytes, *, then_close: bool = False) -> AsyncIterator[tuple[int, asyncio.Event]]:
    """A server that says this to whoever connects; (its port, set when the other side has closed)."""
    closed = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        if then_close:
            writer.write_eof()
        with contextlib.suppress(OSError):
            while await reader.read(4096):
                pass
        writer.close()
        closed.set()

    async with await asyncio.start_server(talk, HOST, 0) as server:
        yield server.sockets[0].getsockname()[1], closed


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak TWS"),
        (b"\0\0\0\0", "does not speak TWS"),
        (b"\0\0\0\x0a178 rubbish", "does not speak TWS"),
        (b"\0\0\0\x12-1\x0010.0.0.1:4001\0\0\0\0", "does not speak TWS"),
        (b"\0\0\0\x04150\0", "server version 150"),
        (b"\0\0\0\x04900\0", "server version 900"),
        (b"\0\0\0\x20178\0", "no answer within 0.3 s"),
        (b"", "no answer within 0.3 s"),
    ],
)
async def test_what_is_no_gateway_is_silent_with_its_reason_and_the_connection_is_closed(data: bytes, reason: str):
    async with says(data) as (port, closed):
        open_now: set[str] = set()
        answer = await probe(HOST, port, 0.3, open_now=open_now)
        assert isinstance(answer, Silent)
        assert reason in answer.reason
        assert not open_now
        await asyncio.wait_for(closed.wait(), 3)


async def test_a_connection_closed_before_the_greeting_is_silence():
    async with says(b"\0\0", then_close=True) as (port, _):
        assert await probe(HOST, port, 3) == Silent("the connection was closed before the greeting")


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 70 + ".invalid"])
async def test_a_name_that_leads_nowhere_is_silence(host: str):
    assert isinstance(await probe(host, free_ports(1)[0], 3), Silent)


async def test_a_probe_that_is_cancelled_leaves_no_connection_behind():
    async with says(b"") as (port, closed):
        open_now: set[str] = set()
        probing = asyncio.create_task(probe(HOST, port, 30, open_now=open_now))
        async with asyncio.timeout(3):
            while not open_now:
                await asyncio.sleep(0.005)
        probing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probing
        assert not open_now
        await asyncio.wait_for(closed.wait(), 3)
