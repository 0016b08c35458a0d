"""What ib_async 2.1.0 makes of a gateway: its own behaviour, seen against the stand-in, so that users can rely on it."""

import asyncio
import logging

import pytest
from ib_async import IB, ExecutionFilter, LimitOrder, MarketOrder, OrderStatus, StartupFetch, StartupFetchNONE, Stock

from tests.integration.sim_fixture import Sim, errors_of, running_sim, until, until_entries

AAPL = Stock("AAPL", "SMART", "USD")


def _dial(sim: Sim, ib: IB, **more: object):
    return ib.connectAsync("127.0.0.1", sim.port, 1, timeout=0.5, **more)


async def test_a_start_up_request_without_its_end_is_only_logged_unless_errors_are_to_be_raised(
    caplog: pytest.LogCaptureFixture,
):
    async with running_sim() as sim:
        by_hand = {"symbol": "AAPL", "side": "BUY", "quantity": "1", "limit_price": "100", "client_id": 1}
        await sim.call("POST", "/orders", by_hand, status=201)
        await sim.fault("no_end", request="open_orders")
        ib = IB()
        try:
            with caplog.at_level(logging.ERROR, logger="ib_async"):
                await _dial(sim, ib, fetchFields=StartupFetch.ORDERS_OPEN)
            assert ib.isConnected()
            assert "open orders request timed out" in caplog.text
            ib.disconnect()
            with pytest.raises(ConnectionError):
                await _dial(sim, ib, fetchFields=StartupFetch.ORDERS_OPEN, raiseSyncErrors=True)
            assert not ib.isConnected()
        finally:
            ib.disconnect()


async def test_positions_are_asked_for_at_the_start_whatever_is_to_be_fetched():
    async with running_sim() as sim:
        await sim.fault("no_end", request="positions")
        ib = IB()
        try:
            with pytest.raises(ConnectionError):
                await _dial(sim, ib, fetchFields=StartupFetchNONE, raiseSyncErrors=True)
            await _dial(sim, ib, fetchFields=StartupFetchNONE)
            assert ib.isConnected()
        finally:
            ib.disconnect()


async def test_326_is_told_at_once_and_raised_only_when_the_time_is_up():
    async with running_sim() as sim:
        await sim.client(1)
        ib = IB()
        errors = errors_of(ib)
        loop = asyncio.get_running_loop()
        start = loop.time()
        with pytest.raises(TimeoutError):
            await _dial(sim, ib)
        assert loop.time() - start >= 0.5
        assert errors[0] == (-1, 326)


async def test_orders_above_its_own_pace_wait_and_are_lost_with_the_socket():
    async with running_sim() as sim:
        ib = await sim.client()
        ib.client.RequestsInterval = 60  # so that a slow machine does not send the rest meanwhile
        throttled: list[bool] = []
        ib.client.throttleStart += lambda: throttled.append(True)
        trades = [ib.placeOrder(AAPL, LimitOrder("BUY", 1, 10 + number)) for number in range(60)]
        assert {trade.orderStatus.status for trade in trades} == {OrderStatus.PendingSubmit}
        await until_entries(sim, "order", 30)
        await sim.fault("close_sessions")
        await until(lambda: not ib.isConnected(), "the end of the session")
        assert throttled
        taken = {entry["order_id"] for entry in await sim.journal("order")}
        assert 30 <= len(taken) <= 45
        assert taken == {trade.order.orderId for trade in trades[: len(taken)]}


async def test_a_disconnect_still_writes_what_is_buffered_and_an_abort_does_not():
    async with running_sim() as sim:
        polite = await sim.client(1)
        polite.placeOrder(AAPL, LimitOrder("BUY", 1, 100, orderRef="flushed"))
        polite.disconnect()
        (taken,) = await until_entries(sim, "order", 1)
        assert taken["order_ref"] == "flushed"
        fenced = await sim.client(2)
        fenced.client.RequestsInterval = 60
        for number in range(60):
            fenced.placeOrder(AAPL, LimitOrder("BUY", 1, 100, orderRef=f"f{number}"))
        fenced.client._msgQ.clear()
        fenced.client.conn.transport.abort()
        await until_entries(sim, "session_closed", 2)
        assert len([entry for entry in await sim.journal("order") if entry["client_id"] == 2]) <= 45


async def test_after_a_lost_socket_the_ids_begin_at_the_gateways_next_one_again():
    async with running_sim() as sim:
        ib = await sim.client()
        await sim.fault("lose_orders", next=1)
        lost = ib.placeOrder(AAPL, MarketOrder("BUY", 1))
        await until_entries(sim, "fault", 2)
        ib.client.conn.transport.abort()
        await until(lambda: not ib.isConnected(), "the end of the session")
        again = await sim.client()
        assert again.client.getReqId() == lost.order.orderId


async def test_two_requests_of_one_kind_at_once_lose_the_first():
    async with running_sim() as sim:
        ib = await sim.client()
        await sim.fault("delay", ms=50)
        first, second = (asyncio.ensure_future(ib.reqAllOpenOrdersAsync()) for _ in range(2))
        await asyncio.wait_for(second, 2)
        await ib.reqCurrentTimeAsync()
        assert not first.done()
        first.cancel()


async def test_a_failed_request_looks_like_an_empty_answer_unless_errors_are_to_be_raised():
    async with running_sim() as sim:
        ib = await sim.client()
        ib.RaiseRequestErrors = False
        assert await ib.reqContractDetailsAsync(Stock("NOPE", "SMART", "USD")) == []
        await sim.fault("link_down")
        assert not await ib.reqMatchingSymbolsAsync("AAPL")


async def test_requested_executions_fire_no_event_and_a_correction_counts_twice():
    async with running_sim() as sim:
        ib = await sim.client()
        trade = ib.placeOrder(AAPL, MarketOrder("BUY", 10))
        await until(lambda: trade.fills, "a fill")
        await sim.fault("correction", exec_id=trade.fills[0].execution.execId, quantity="8")
        await until(lambda: len(trade.fills) == 2, "the correction")
        assert trade.filled() == 18
        ib.disconnect()
        again = await sim.client()
        heard: list[object] = []
        again.execDetailsEvent += lambda *_: heard.append(1)
        assert len(await again.reqExecutionsAsync(ExecutionFilter())) == 2
        assert heard == []


async def test_an_error_about_a_live_order_makes_its_trade_look_cancelled():
    async with running_sim() as sim:
        ib = await sim.client()
        await sim.fault("warn", next=1, code=10349)
        trade = ib.placeOrder(AAPL, LimitOrder("BUY", 5, 100))
        await until(lambda: trade.orderStatus.status == "Cancelled", "a trade that looks cancelled")
        (live,) = (await sim.call("GET", "/orders"))["orders"]
        assert live["state"] == "Submitted"


async def test_a_disconnect_leaves_requests_hanging():
    async with running_sim() as sim:
        ib = await sim.client()
        await sim.fault("mute")
        waiting = asyncio.ensure_future(ib.reqAllOpenOrdersAsync())
        await asyncio.sleep(0)
        ib.disconnect()
        done, _ = await asyncio.wait({waiting}, timeout=0.2)
        assert not done
        waiting.cancel()


async def test_a_requests_error_under_an_orders_id_is_taken_for_the_orders():
    async with running_sim() as sim:
        ib = await sim.client()
        trade = ib.placeOrder(AAPL, LimitOrder("BUY", 5, 100))
        await until(lambda: trade.orderStatus.status == "Submitted", "a resting order")
        ib.client.reqHeadTimeStamp(trade.order.orderId, AAPL, "TRADES", 1, 1)
        await until(lambda: trade.log[-1].errorCode == 321, "the request's error at the order")
        (live,) = (await sim.call("GET", "/orders"))["orders"]
        assert live["state"] == "Submitted"
