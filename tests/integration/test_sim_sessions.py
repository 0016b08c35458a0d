"""Sessions, client ids, restarts and bad bytes."""

import asyncio
import signal
import socket
import sys
from pathlib import Path

import pytest
from ib_async import IB, LimitOrder, MarketOrder, Stock

from ibsim.peer import Peer
from tests.integration.sim_fixture import running_sim, sim_process, until, until_answer, until_entries

AAPL = Stock("AAPL", "SMART", "USD")


async def test_a_taken_client_id_gets_326_and_its_end_and_a_closed_one_is_free_at_once():
    async with running_sim() as sim:
        first = await sim.client(1)
        second = IB()
        codes: list[int] = []
        second.errorEvent += lambda _about, code, *_: codes.append(code)
        loop = asyncio.get_running_loop()
        start = loop.time()
        connecting = asyncio.ensure_future(second.connectAsync("127.0.0.1", sim.port, 1, timeout=1.5))
        await until(lambda: codes == [326], "error 326")
        assert loop.time() - start < 0.5
        await until(lambda: second.client.conn.transport is None, "the end of the refused connection")
        assert 0.6 < loop.time() - start < 1.5
        with pytest.raises(asyncio.TimeoutError):
            await connecting
        (refused,) = await sim.journal("session_refused")
        assert (refused["client_id"], refused["code"]) == (1, 326)
        first.disconnect()
        await sim.client(1)


async def test_order_ids_survive_the_session():
    async with running_sim() as sim:
        ib = await sim.client(3)
        trade = ib.placeOrder(AAPL, LimitOrder("BUY", 1, 100))
        await until(lambda: trade.order.permId, "a permId")
        ib.disconnect()
        again = await sim.client(3)
        assert again.client.getReqId() > trade.order.orderId
        assert [t.order.permId for t in await again.reqOpenOrdersAsync()] == [trade.order.permId]
        assert (await sim.client(4)).client.getReqId() == 1


async def test_a_killed_gateway_continues_from_its_journal(tmp_path: Path):
    journal = tmp_path / "journal.jsonl"
    async with sim_process("--journal", journal) as sim:
        ib = await sim.client(1)
        filled = ib.placeOrder(AAPL, MarketOrder("BUY", 10, orderRef="a"))
        resting = ib.placeOrder(AAPL, LimitOrder("SELL", 4, 200, orderRef="b"))
        await until(lambda: filled.isDone() and resting.order.permId, "one filled, one resting")
        before = await sim.journal()
        await sim.end()
    with journal.open("ab") as file:
        file.write(b'{"seq":99,"half a li')
    async with sim_process("--journal", journal, "--fsync") as sim:
        after = await sim.journal()
        assert after[: len(before)] == before
        assert [entry["seq"] for entry in after] == list(range(1, len(after) + 1))
        assert after[-1]["kind"] == "restart"
        ib = await sim.client(1)
        assert ib.client.getReqId() > resting.order.orderId
        assert [t.order.permId for t in await ib.reqOpenOrdersAsync()] == [resting.order.permId]
        assert [p.position for p in await ib.reqPositionsAsync()] == [10]
        assert len(await ib.reqExecutionsAsync()) == 1
        assert len(await ib.reqCompletedOrdersAsync(False)) == 1
        new = ib.placeOrder(AAPL, MarketOrder("BUY", 1))
        await until(new.isDone, "a fill")
        assert new.order.permId > resting.order.permId
        assert new.fills[0].execution.execId != filled.fills[0].execution.execId
        await sim.call("POST", "/prices", {"AAPL": "201"})
        assert {o["state"] for o in (await sim.call("GET", "/orders"))["orders"]} == {"Filled"}


async def test_a_busy_port_is_one_line_that_names_it():
    async with running_sim() as sim:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ibsim", "--port", str(sim.port), "--control-port", "0",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        assert (process.returncode, out) == (1, b"")
        assert str(sim.port) in err.decode()
        assert len(err.decode().splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_ends_well_when_told_to(number: signal.Signals):
    async with sim_process() as sim:
        ib = await sim.client(1)
        assert await sim.end(number) == 0
        await until(lambda: not ib.isConnected(), "the end of the session")


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"API\0\x7f\xff\xff\xff",
        b"API\0\0\0\0\x09v900..999",
        b"API\0\0\0\0\x09v157..178" + b"\0\0\0\x05\xff\xfe\xfd\xfcx",
        b"API\0\0\0\0\x09v157..178" + b"\0\0\0\x049\x00\x00\x00",
    ],
)
async def test_bytes_that_are_not_the_protocol_end_that_session_only(data: bytes):
    async with running_sim() as sim:
        ib = await sim.client(1)
        reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
        writer.write(data)
        async with asyncio.timeout(3):
            await reader.read()
        writer.close()
        (closed,) = [e for e in await sim.journal() if e["kind"] in ("session_closed", "session_refused")]
        assert closed["reason"]
        assert await ib.reqCurrentTimeAsync()


@pytest.mark.parametrize("how", ["reset", "close"])
async def test_what_came_before_the_end_of_a_connection_is_taken(how: str):
    """A client that dies with answers unread resets its connection; what it had sent before is in the gateway all the same."""
    async with sim_process() as sim:
        assert sim.process is not None
        peer = await Peer.connect("127.0.0.1", sim.port)
        peer.start(1)
        assert await peer.named("nextValidId", 3)
        sim.process.send_signal(signal.SIGSTOP)  # so that all of it is there before the first of it is answered
        corked = peer.transport.get_extra_info("socket")
        corked.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_CORK, 1
        )  # in few segments: each small one takes much of the window
        for number in range(1, 101):
            peer.order(number, symbol="AAPL", action="BUY", totalQuantity="1", lmtPrice="1.00")
        await peer.drain()
        corked.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
        if how == "reset":
            peer.reset()
        else:
            await peer.close()
        sim.process.send_signal(signal.SIGCONT)
        assert len(await until_entries(sim, "order", 100)) == 100
        await until_answer(sim, "/sessions", lambda answer: answer["sessions"] == [])
