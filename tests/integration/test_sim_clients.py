"""Any client: versions, requests that are not served, ib_insync, bytes that are not the protocol."""

import asyncio
import socket

import ib_insync
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ibsim.messages import ANSWERS, REQUESTS, UNSERVED
from ibsim.peer import Peer
from ibsim.session import Session
from ibsim.wire import message
from tests.integration.sim_fixture import Sim, running_sim, until, until_entries

GREETING = b"API\0\0\0\0\x09v157..178"
START = message(["71", "2", "50", ""])


async def _peer(sim: Sim, client_id: int = 5, versions: str = "v157..178") -> Peer:
    peer = await Peer.connect("127.0.0.1", sim.port, versions)
    assert await peer.named("handshake", 2)
    peer.start(client_id)
    assert await peer.named("nextValidId", 2)
    return peer


# versions


@pytest.mark.parametrize(
    ("offer", "highest", "version"),
    [
        ("v157..178", 178, 178),
        ("v100..200", 178, 178),
        ("v157..165", 178, 165),
        ("v170", 178, 170),
        ("v157..178 +PACEAPI", 178, 178),
        ("v157..178", 163, 163),
        ("v100..157", 178, 157),
    ],
)
async def test_the_version_is_the_highest_that_both_speak(offer: str, highest: int, version: int):
    async with running_sim(server_version=highest) as sim:
        peer = await _peer(sim, versions=offer)
        try:
            assert peer.version == version
            peer.order(1, symbol="AAPL", action="BUY", totalQuantity="1", lmtPrice="200", account="DU1234567")
            filled = await peer.until(lambda one: one.fields.get("status") == "Filled", 2)
            assert filled is not None
            assert not [one for one in peer.got if one.name == "unknown"]
        finally:
            await peer.close()


async def test_at_every_version_orders_and_lists_read_as_the_table_says():
    async with running_sim() as sim:
        for number, version in enumerate(range(157, 179)):
            peer = await _peer(sim, versions=f"v{version}")
            try:
                stock = {"symbol": "AAPL", "action": "BUY", "totalQuantity": "1", "account": "DU1234567"}
                peer.order(2 * number + 1, **stock, orderType="MKT", lmtPrice="")
                peer.order(2 * number + 2, **stock, lmtPrice="100", ocaGroup="G", goodTillDate="20301231-00:00:00")
                peer.send("reqAllOpenOrders")
                peer.send("reqCompletedOrders", apiOnly="0")
                peer.send("reqExecutions", reqId="1", clientId="0")
                peer.send("reqContractDetails", reqId="2", symbol="AAPL", secType="STK", includeExpired="0")
                assert await peer.named("contractDetailsEnd", 3)
                told = {one.name for one in peer.got}
                assert {"openOrder", "orderStatus", "execDetails", "completedOrder", "contractDetails"} <= told
                assert not [one for one in peer.got if one.name == "unknown"]
                shown = next(one for one in reversed(peer.got) if one.name == "openOrder")
                assert (shown.fields["ocaGroup"], shown.fields["status"]) == ("G", "Submitted")
            finally:
                await peer.close()
            await until(lambda: not sim.stand.gateway.sessions.by_client, "the end of the session")


@pytest.mark.parametrize("offer", ["v100..156", "v179..200", "v76"])
async def test_a_client_without_a_common_version_is_refused_with_a_reason(offer: str):
    async with running_sim() as sim:
        peer = await Peer.connect("127.0.0.1", sim.port, offer)
        try:
            told = await peer.named("error", 2)
            assert told is not None
            assert told.fields["code"] == "506"
            assert "157 to 178" in told.fields["text"]
            assert await peer.end(2) is not None
            (refused,) = await sim.journal("session_refused")
            assert refused["code"] == 506
            assert "157 to 178" in refused["reason"]
        finally:
            await peer.close()


# requests


async def test_every_request_that_is_known_and_not_served_is_answered_and_named():
    async with running_sim() as sim:
        peer = await _peer(sim)
        try:
            for number, (name, at) in UNSERVED.items():
                count, fields = len(peer.got), [str(number), "1", "1", "1"]
                if at is not None:
                    fields[at] = "4711"
                peer._writer.write(message(fields))
                told = await peer.named("error", 2, count)
                assert told is not None, name
                assert told.fields["id"] == ("4711" if at is not None else "-1")
                assert told.fields["code"] == "321"
                assert name in told.fields["text"]
            named = [entry["request"] for entry in await sim.journal("fault")]
            assert named == [name for name, _ in UNSERVED.values()]
        finally:
            await peer.close()


def test_the_table_has_every_request_of_these_versions():
    assert set(REQUESTS) | set(UNSERVED) == {*range(1, 26), *range(49, 60), *range(61, 105)}
    assert not set(REQUESTS) & set(UNSERVED)
    assert len({number for number, _ in ANSWERS.values()}) == len(ANSWERS)


# ib_insync


async def test_ib_insync_connects_trades_modifies_cancels_and_lists():
    async with running_sim() as sim:
        ib = ib_insync.IB()
        try:
            await ib.connectAsync("127.0.0.1", sim.port, 3, timeout=5)
            assert ib.client.serverVersion() == 176  # the highest that it speaks
            stock = ib_insync.Stock("AAPL", "SMART", "USD")
            assert await ib.qualifyContractsAsync(stock) == [stock]
            filled = ib.placeOrder(stock, ib_insync.MarketOrder("BUY", 10, orderRef="insync"))
            resting = ib.placeOrder(stock, ib_insync.LimitOrder("BUY", 1, 100))
            await until(
                lambda: filled.isDone() and resting.orderStatus.status == "Submitted", "a fill and a resting order"
            )
            assert (filled.fills[0].execution.price, filled.filled()) == (190, 10)
            resting.order.lmtPrice = 101
            ib.placeOrder(stock, resting.order)
            (changed,) = await until_entries(sim, "modify", 1)
            assert changed["price"] == "101"
            ib.cancelOrder(resting.order)
            await until(lambda: resting.orderStatus.status == "Cancelled", "a cancelled order")
            assert len(await ib.reqCompletedOrdersAsync(False)) == 2
            assert [fill.execution.orderRef for fill in await ib.reqExecutionsAsync()] == ["insync"]
            assert [held.position for held in await ib.reqPositionsAsync()] == [10]
            (ticker,) = await asyncio.wait_for(ib.reqTickersAsync(stock), 3)
            assert ticker.last == 190
            summary = await ib.accountSummaryAsync()
            assert "NetLiquidation" in {value.tag for value in summary}
        finally:
            ib.disconnect()


# bad input


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"API\0\x7f\xff\xff\xff",
        b"API\0\x80\0\0\0" + b"x" * 100,
        b"API\0\0\0\0\x00",
        b"API\0\0\0\0\x05hello",
        b"API\0\0\0\0\x09v900..999",
        GREETING + b"\0\0\0\x05\xff\xfe\xfd\xfcx",
        GREETING + b"\0\0\0\0",
        GREETING + message(["49", "1"]),
        GREETING + message(["71", "2", "many", ""]),
        GREETING + START + message(["9999", "1"]),
        GREETING + START + message(["4"]),
        GREETING + START + message(["49", "1", "1", "1"]),
        GREETING + START + message(["3", "1", *["x"] * 200]),
        GREETING + START + message(["3", *["9" * 400] * 90]),
        GREETING + START + b"\x7f\xff\xff\xff",
        GREETING + START + b"\0\0\0\x0249",
    ],
)
async def test_bytes_that_are_not_the_protocol_end_that_session_only_with_a_reason(data: bytes):
    async with running_sim() as sim:
        ib = await sim.client(1)
        reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
        try:
            writer.write(data)
            async with asyncio.timeout(3):
                await reader.read()
        finally:
            writer.close()
        ended = [e for e in await sim.journal() if e["kind"] in ("session_closed", "session_refused")]
        assert len(ended) == 1
        assert ended[0]["reason"]
        assert await ib.reqCurrentTimeAsync()


async def test_a_malformed_message_in_an_open_session_is_answered_with_320():
    async with running_sim() as sim:
        peer = await _peer(sim)
        try:
            peer._writer.write(message(["4", "1"]))
            told = await peer.until(lambda one: one.fields.get("code") == "320", 2)
            assert told is not None
            assert "cancelOrder" in told.fields["text"]
            assert await peer.end(2) is not None
        finally:
            await peer.close()


async def test_half_a_frame_and_then_nothing_harms_nobody_and_is_named_when_it_ends():
    async with running_sim() as sim:
        ib = await sim.client(1)
        _, writer = await asyncio.open_connection("127.0.0.1", sim.port)
        writer.write(GREETING + START + message(["49", "1"])[:5])
        await until_entries(sim, "session_open", 2)
        assert await ib.reqCurrentTimeAsync()
        writer.close()
        (closed,) = await until_entries(sim, "session_closed", 1)
        assert "inside a message" in closed["reason"]


async def test_connections_that_never_begin_a_session_keep_nobody_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ibsim.sessions.MAX_CONNECTIONS", 5)
    async with running_sim() as sim:
        first = await sim.client(1)
        idle = [await asyncio.open_connection("127.0.0.1", sim.port) for _ in range(20)]
        try:
            second = await sim.client(2)
            assert await first.reqCurrentTimeAsync()
            assert await second.reqCurrentTimeAsync()
            closed = await until_entries(sim, "session_closed", 17)
            assert {entry["reason"] for entry in closed} == {"more than 5 connections"}
        finally:
            for _, writer in idle:
                writer.close()


async def _with_orders(sim: Sim, count: int) -> None:
    for number in range(count):
        body = {"symbol": "AAPL", "side": "BUY", "quantity": "1", "limit_price": str(number + 1)}
        await sim.call("POST", "/orders", body, status=201)


async def _deaf(sim: Sim) -> tuple[asyncio.StreamWriter, Session]:
    """A client with an open session that never reads, and its session; little is on the way between them."""
    _, writer = await asyncio.open_connection("127.0.0.1", sim.port, limit=1024)
    writer.transport.pause_reading()
    writer.write(GREETING + START)
    sessions = sim.stand.gateway.sessions
    await until(lambda: 50 in sessions.by_client, "its session")
    session = sessions.by_client[50]
    for transport, option in ((writer.transport, socket.SO_RCVBUF), (session.transport, socket.SO_SNDBUF)):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, option, 4096)
    return writer, session


@pytest.fixture
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """So little output waits for a client that does not read, and so short, that a test can fill it."""
    monkeypatch.setattr("ibsim.outbox.CHOKED", 100_000)
    monkeypatch.setattr("ibsim.outbox.MAX_UNREAD", 1_000_000)
    monkeypatch.setattr("ibsim.outbox.PATIENCE", 0.5)


async def test_a_client_that_asks_for_more_than_it_reads_is_ended_and_the_others_do_not_notice(small_buffers: None):
    async with running_sim(derivatives=False) as sim:
        await _with_orders(sim, 50)
        witness = await sim.client(1)
        writer, session = await _deaf(sim)
        try:
            writer.write(message(["16", "1"]) * 20_000)
            await until(lambda: session.out.choked, "its requests wait")
            assert not session.transport.is_reading()
            assert await asyncio.wait_for(witness.reqCurrentTimeAsync(), 1)
            assert session.transport.get_write_buffer_size() < 2_000_000
            (closed,) = await until_entries(sim, "session_closed", 1)
            assert (closed["client_id"], closed["reason"]) == (50, "the client does not read")
        finally:
            writer.transport.abort()


async def test_a_client_that_reads_late_gets_everything_that_it_asked_for(small_buffers: None):
    async with running_sim(derivatives=False) as sim:
        await _with_orders(sim, 20)
        reader, writer = await asyncio.open_connection("127.0.0.1", sim.port, limit=1 << 16)
        try:
            writer.write(GREETING + START + message(["16", "1"]) * 300)
            await until_entries(sim, "session_open", 1)
            ends, rest = 0, b""
            async with asyncio.timeout(10):
                while ends < 300:
                    data = rest + await reader.read(1 << 16)
                    ends += data.count(b"\x00\x00\x00\x0553\x001\x00")
                    rest = data[-8:] if not data.endswith(b"53\x001\x00") else b""
            assert not await sim.journal("session_closed")
        finally:
            writer.transport.abort()


async def test_news_for_a_client_that_never_reads_end_its_session_with_a_reason(small_buffers: None):
    async with running_sim(derivatives=False) as sim:
        writer, session = await _deaf(sim)
        trader = await _peer(sim, 1)
        try:
            writer.write(message(["61", "1"]))
            for number in range(1, 20_000):
                side = "BUY" if number % 2 else "SELL"
                trader.order(
                    number, symbol="AAPL", action=side, totalQuantity="1", orderType="MKT", account="DU1234567"
                )
                if number % 200 == 0:
                    await trader.drain()
                    await asyncio.sleep(0)
                if session.state == "closed":
                    break
            await until(lambda: session.state == "closed", "the end of the deaf session")
            assert session.reason == "the client does not read"
            assert not trader.lost
        finally:
            await trader.close()
            writer.transport.abort()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunks=st.lists(st.binary(min_size=1, max_size=60), max_size=6), opened=st.booleans())
def test_any_bytes_at_all_leave_the_other_sessions_alone(chunks: list[bytes], opened: bool):
    async def run() -> None:
        async with running_sim(derivatives=False) as sim:
            witness = await _peer(sim, 1)
            _, writer = await asyncio.open_connection("127.0.0.1", sim.port)
            try:
                if opened:
                    writer.write(GREETING + START)
                for chunk in chunks:
                    writer.write(chunk)
                    await asyncio.sleep(0)
                count = len(witness.got)
                witness.send("reqCurrentTime")
                assert await witness.named("currentTime", 2, count)
            finally:
                writer.close()
                await witness.close()

    asyncio.run(run())
