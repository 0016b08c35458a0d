"""Restarts, the weekly logout, pacing: what ends or slows every session, through ib_async on the wire."""

import asyncio
import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from ib_async import IB, LimitOrder, MarketOrder, Stock, StopLimitOrder

from ibsim.hours import Moment
from ibsim.peer import Peer
from tests.integration.sim_fixture import Sim, errors_of, running_sim, sim_process, until, until_entries

AAPL = Stock("AAPL", "SMART", "USD")


async def _refuses(sim: Sim) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", sim.port)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


async def _back(sim: Sim) -> IB:
    """A client as soon as the gateway accepts connections again."""
    loop = asyncio.get_running_loop()
    end = loop.time() + 5
    while await _refuses(sim):
        assert loop.time() < end, "the gateway did not come back"
        await asyncio.sleep(0.02)
    return await sim.client()


async def test_restart_ends_the_sessions_refuses_connections_and_keeps_orders_and_ids():
    async with running_sim() as sim:
        ib = await sim.client()
        trade = ib.placeOrder(AAPL, LimitOrder("BUY", 1, 100, orderRef="kept"))
        await until(lambda: trade.orderStatus.status == "Submitted", "a resting order")
        await sim.fault("restart", down_ms=200)
        await until(lambda: not ib.isConnected(), "the end of the session")
        assert await _refuses(sim)
        again = await _back(sim)
        assert again.client.getReqId() > trade.order.orderId
        assert [t.order.orderRef for t in await again.reqOpenOrdersAsync()] == ["kept"]
        assert (await sim.journal("restart"))[0]["rollback_ids"] == 0


async def test_restart_may_roll_the_next_valid_id_back_and_ids_are_given_again():
    async with running_sim() as sim:
        ib = await sim.client()
        trades = [ib.placeOrder(AAPL, MarketOrder("BUY", 1, orderRef=f"r{n}")) for n in range(3)]
        await until(lambda: all(trade.fills for trade in trades), "three fills")
        await sim.fault("restart", down_ms=50, rollback_ids=2)
        again = await _back(sim)
        reused = again.client.getReqId()
        assert reused == trades[1].order.orderId
        new = again.placeOrder(AAPL, LimitOrder("BUY", 1, 100, orderId=reused, orderRef="new"))
        await until(lambda: new.order.permId, "taken under an id that was used before")
        assert [e["order_id"] for e in await sim.journal("order")].count(reused) == 2


async def test_orders_of_the_last_milliseconds_before_a_restart_vanish():
    async with running_sim() as sim:
        ib = await sim.client()
        await sim.fault("restart", down_ms=50, lose_ms=200)
        lost = ib.placeOrder(AAPL, MarketOrder("BUY", 1, orderRef="lost"))
        await until(lambda: not ib.isConnected(), "the end of the session")
        again = await _back(sim)
        assert again.client.getReqId() == lost.order.orderId
        assert await again.reqAllOpenOrdersAsync() == []
        assert not await sim.journal("order")
        taken = again.placeOrder(AAPL, MarketOrder("BUY", 1))
        await until(lambda: taken.fills, "orders are taken again")


async def test_logout_lasts_until_somebody_logs_in_again():
    async with running_sim() as sim:
        ib = await sim.client()
        await sim.fault("logout")
        await until(lambda: not ib.isConnected(), "the end of the session")
        await sim.fault("restart", down_ms=0)
        await until_entries(sim, "restart", 1)
        assert await _refuses(sim)
        await sim.mend("logout")
        assert (await _back(sim)).isConnected()


@pytest.mark.parametrize("what", ["daily_restart", "weekly_logout"])
async def test_the_daily_restart_and_the_weekly_logout_come_by_the_clock(what: str):
    at = datetime.datetime.now(ZoneInfo("UTC")) + datetime.timedelta(seconds=2)
    weekday = at.weekday() if what == "weekly_logout" else None
    moment = Moment(at.hour, at.minute, at.second, weekday)
    async with running_sim(zone="UTC", restart_ms=50, **{what: moment}) as sim:
        ib = await sim.client()
        await until(lambda: not ib.isConnected(), "the end of the session")
        if what == "weekly_logout":
            assert await _refuses(sim)
            await sim.mend("logout")
        assert (await _back(sim)).isConnected()


async def test_pacing_answers_100_and_the_third_second_of_it_ends_the_session():
    async with running_sim() as sim:
        ib = await sim.client()
        ib.client.MaxRequests = 0
        errors = errors_of(ib)
        await sim.fault("pacing", limit=5)
        for number in range(1, 4):
            for _ in range(8):
                ib.client.reqIds(1)
            await until(lambda number=number: errors.count((-1, 100)) == number, "error 100")
            if number < 3:
                await asyncio.sleep(1.05)
        await until(lambda: not ib.isConnected(), "the end of the session")
        assert "pacing" in (await sim.journal("session_closed"))[0]["reason"]


async def test_pacing_may_delay_silently_in_order():
    async with running_sim() as sim:
        ib = await sim.client()
        ib.client.MaxRequests = 0
        errors = errors_of(ib)
        await sim.fault("pacing", limit=10, over="delay")
        loop = asyncio.get_running_loop()
        start = loop.time()
        trades = [ib.placeOrder(AAPL, LimitOrder("BUY", 1, 10 + n)) for n in range(15)]
        await until(lambda: trades[9].order.permId, "the first ten")
        assert loop.time() - start < 0.9
        await until(lambda: trades[14].order.permId, "the rest")
        assert loop.time() - start >= 1
        assert [e["order_id"] for e in await sim.journal("order")] == [t.order.orderId for t in trades]
        assert (-1, 100) not in errors


async def test_pacing_may_drop_what_is_above_the_limit():
    async with running_sim() as sim:
        ib = await sim.client()
        ib.client.MaxRequests = 0
        errors = errors_of(ib)
        await sim.fault("pacing", limit=3, over="drop")
        for number in range(5):
            ib.placeOrder(AAPL, LimitOrder("BUY", 1, 10 + number))
        await until(lambda: (-1, 100) in errors, "error 100")
        assert len(await sim.journal("order")) == 3


async def test_prices_go_on_from_where_they_were_after_a_kill(tmp_path: Path):
    journal = tmp_path / "journal.jsonl"
    async with sim_process("--journal", journal) as sim:
        await sim.call("POST", "/prices", {"AAPL": "201.37", "EUR.USD": "1.0905"})
        await sim.end()
    async with sim_process("--journal", journal) as sim:
        prices = await sim.call("GET", "/prices")
        assert (prices["AAPL"], prices["EUR.USD"], prices["MSFT"]) == ("201.37", "1.0905", "415")
        ib = await sim.client()
        trade = ib.placeOrder(AAPL, MarketOrder("BUY", 1))
        await until(lambda: trade.fills, "a fill")
        assert trade.fills[0].execution.price == 201.37
        assert not [
            e
            for e in await sim.journal()
            if e["kind"] not in {"restart", "session_open", "order", "working", "execution"}
        ]


async def test_what_orders_were_is_known_after_a_kill(tmp_path: Path):
    """Held, grouped, parent and child, corrected, rolled back: all of it from the journal."""
    journal = tmp_path / "journal.jsonl"
    async with sim_process("--journal", journal) as sim:
        ib = await sim.client()
        parent, profit, loss = ib.bracketOrder("BUY", 5, 100, 120, 80)
        for order in (parent, profit, loss):
            ib.placeOrder(AAPL, order)
        await until_entries(sim, "working", 3)
        kept = ib.placeOrder(AAPL, LimitOrder("SELL", 1, 300, transmit=False))
        filled = ib.placeOrder(AAPL, MarketOrder("BUY", 10))
        await until(lambda: filled.fills, "a fill")
        await sim.fault("correction", exec_id=filled.fills[0].execution.execId, quantity="9")
        await sim.fault("midnight")
        await sim.end()
    async with sim_process("--journal", journal) as sim:
        ib = await sim.client()
        assert await ib.reqExecutionsAsync() == []
        assert [p.position for p in await ib.reqPositionsAsync()] == [9]
        shown = {t.order.orderId: t for t in await ib.reqOpenOrdersAsync()}
        assert set(shown) == {parent.orderId, profit.orderId, loss.orderId, kept.order.orderId}
        await sim.call("POST", "/prices", {"AAPL": "99"})
        await until(lambda: shown[parent.orderId].fills, "the parent is filled")
        await sim.call("POST", "/prices", {"AAPL": "121"})
        await until(lambda: shown[profit.orderId].fills, "its child works after the kill")
        await until(lambda: shown[loss.orderId].orderStatus.status == "Cancelled", "and cancels its sibling")
        states = {o["order_id"]: o for o in (await sim.call("GET", "/orders"))["orders"]}
        assert states[filled.order.orderId]["filled"] == "9"
        assert states[kept.order.orderId]["state"] == "PendingSubmit"


async def test_a_stop_that_was_triggered_before_a_kill_is_a_limit_order_after_it(tmp_path: Path):
    journal = tmp_path / "journal.jsonl"
    async with sim_process("--journal", journal) as sim:
        ib = await sim.client()
        stop = StopLimitOrder("SELL", 3, 186, 185)
        trade = ib.placeOrder(AAPL, stop)
        await until(lambda: trade.orderStatus.status == "PreSubmitted", "a stop that rests")
        await sim.call("POST", "/prices", {"AAPL": "184"})
        await until(lambda: trade.orderStatus.status == "Submitted", "a triggered stop")
        await sim.call("POST", "/prices", {"AAPL": "185.50"})
        await sim.end()
    async with sim_process("--journal", journal) as sim:
        await sim.call("POST", "/prices", {"AAPL": "186"})
        assert (await sim.call("GET", "/orders"))["orders"][0]["state"] == "Filled"


async def test_whatever_was_told_before_a_kill_is_in_the_journal_after_it(tmp_path: Path):
    journal = tmp_path / "journal.jsonl"
    async with sim_process("--journal", journal) as sim:
        peer = await Peer.connect("127.0.0.1", sim.port)
        try:
            assert await peer.named("handshake", 2)
            peer.start(1)
            assert await peer.named("nextValidId", 2)
            for number in range(1, 3001):
                peer.order(number, symbol="AAPL", action="BUY", totalQuantity="1", orderType="MKT", account="DU1234567")
            await until(lambda: sum(one.name == "execDetails" for one in peer.got) > 100, "executions")
            await sim.end()
            assert await peer.end(3) is not None
        finally:
            await peer.close()
    told = {one.fields["execId"] for one in peer.got if one.name == "execDetails"}
    async with sim_process("--journal", journal) as sim:
        kept = {entry["exec_id"] for entry in await sim.journal("execution")}
        (held,) = (await sim.call("GET", "/positions"))["positions"]
    assert 100 < len(told) < 3000
    assert told <= kept
    assert held["quantity"] == str(len(kept))
