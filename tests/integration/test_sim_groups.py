"""Brackets, groups, times in force and trading hours, through ib_async on the wire."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ib_async import IB, LimitOrder, MarketOrder, Order, Stock, StopOrder

from tests.integration.sim_fixture import errors_of, running_sim, until, until_entries

AAPL = Stock("AAPL", "SMART", "USD")


def _bracket(ib: IB, quantity: int = 10):
    """A bracket around 100, placed; its trades: parent, profit at 120, loss at 80."""
    return [ib.placeOrder(AAPL, order) for order in ib.bracketOrder("BUY", quantity, 100, 120, 80)]


async def test_an_order_that_is_not_transmitted_stays_in_the_gateway():
    async with running_sim() as sim:
        ib = await sim.client()
        trade = ib.placeOrder(AAPL, LimitOrder("BUY", 1, 200, transmit=False))
        await until_entries(sim, "order", 1)
        assert not await sim.journal("working")
        assert trade.orderStatus.status == "PendingSubmit"
        assert [t.order.orderId for t in await ib.reqOpenOrdersAsync()] == [trade.order.orderId]
        trade.order.transmit = True
        ib.client.placeOrder(trade.order.orderId, AAPL, trade.order)
        await until(lambda: trade.fills, "a fill once it is transmitted")


async def test_the_last_of_a_bracket_transmits_it_and_its_children_wait_for_the_parent():
    async with running_sim() as sim:
        ib = await sim.client()
        parent, profit, loss = _bracket(ib)
        await until(lambda: loss.orderStatus.status == "PreSubmitted", "children that wait")
        assert (parent.orderStatus.status, profit.orderStatus.whyHeld) == ("Submitted", "child")
        assert profit.orderStatus.parentId == parent.order.orderId
        await sim.call("POST", "/prices", {"AAPL": "125"})
        assert not profit.fills
        await sim.call("POST", "/prices", {"AAPL": "99"})
        await until(lambda: parent.fills and profit.orderStatus.status == "Submitted", "children that work")
        await sim.call("POST", "/prices", {"AAPL": "121"})
        await until(lambda: profit.fills, "the profit is taken")
        await until(lambda: loss.orderStatus.status == "Cancelled", "and the stop is cancelled")
        assert (await sim.call("GET", "/positions"))["positions"] == []


async def test_a_cancelled_parent_takes_its_children_along():
    async with running_sim() as sim:
        ib = await sim.client()
        parent, profit, loss = _bracket(ib)
        await until(lambda: loss.orderStatus.status == "PreSubmitted", "a bracket")
        ib.cancelOrder(parent.order)
        await until(lambda: all(t.orderStatus.status == "Cancelled" for t in (parent, profit, loss)), "three ends")


async def test_a_child_without_its_parent_is_135_also_when_it_is_changed_after_the_parent_was_filled():
    async with running_sim() as sim:
        ib = await sim.client()
        errors = errors_of(ib)
        lone = ib.placeOrder(AAPL, LimitOrder("SELL", 1, 300, parentId=77))
        await until(lambda: (lone.order.orderId, 135) in errors, "error 135")
        parent, _, loss = _bracket(ib)
        await until(lambda: loss.orderStatus.status == "PreSubmitted", "a bracket")
        await sim.call("POST", "/prices", {"AAPL": "99"})
        await until(lambda: parent.fills, "a filled parent")
        loss.order.auxPrice = 85
        ib.client.placeOrder(loss.order.orderId, AAPL, loss.order)
        await until(lambda: (loss.order.orderId, 135) in errors, "error 135 for the change")
        loss.order.parentId = 0
        ib.client.placeOrder(loss.order.orderId, AAPL, loss.order)
        (changed,) = await until_entries(sim, "modify", 1)
        assert (changed["order_id"], changed["price"]) == (loss.order.orderId, "85")


async def test_a_fill_cancels_the_others_of_its_oca_group():
    async with running_sim() as sim:
        ib = await sim.client()
        orders = [LimitOrder("BUY", 10, limit) for limit in (100, 90, 80)]
        trades = [ib.placeOrder(AAPL, order) for order in ib.oneCancelsAll(orders, "G", 1)]
        alone = ib.placeOrder(AAPL, LimitOrder("BUY", 10, 70))
        await until(lambda: alone.orderStatus.status == "Submitted", "resting orders")
        await sim.call("POST", "/prices", {"AAPL": {"price": "99", "size": "4"}})
        await until(lambda: all(t.orderStatus.status == "Cancelled" for t in trades[1:]), "the others end")
        assert trades[0].filled() == 4
        assert alone.orderStatus.status == "Submitted"


async def test_oca_type_3_reduces_the_others_by_what_was_filled():
    async with running_sim() as sim:
        ib = await sim.client()
        orders = [LimitOrder("BUY", 10, limit) for limit in (100, 90)]
        first, second = [ib.placeOrder(AAPL, order) for order in ib.oneCancelsAll(orders, "G", 3)]
        await until(lambda: second.orderStatus.status == "Submitted", "resting orders")
        await sim.call("POST", "/prices", {"AAPL": {"price": "99", "size": "4"}})
        await until(lambda: second.order.totalQuantity == 6, "a smaller second")
        await sim.call("POST", "/prices", {"AAPL": "98"})
        await until(
            lambda: first.orderStatus.status == "Filled" and second.orderStatus.status == "Cancelled", "the end"
        )


async def test_the_oca_group_of_an_open_order_cannot_be_changed():
    async with running_sim() as sim:
        ib = await sim.client()
        errors = errors_of(ib)
        trade = ib.placeOrder(AAPL, LimitOrder("BUY", 10, 100, ocaGroup="G", ocaType=1))
        await until(lambda: trade.orderStatus.status == "Submitted", "a resting order")
        other = LimitOrder("BUY", 10, 101, orderId=trade.order.orderId, ocaGroup="H")
        ib.client.placeOrder(other.orderId, AAPL, other)
        await until(lambda: (trade.order.orderId, 10326) in errors, "error 10326")
        assert len((await sim.call("GET", "/orders"))["orders"]) == 1


@pytest.mark.parametrize(
    ("tif", "limit", "status", "filled"),
    [("IOC", 200, "Filled", 5), ("IOC", 100, "Cancelled", 0), ("FOK", 200, "Filled", 5), ("FOK", 100, "Cancelled", 0)],
)
async def test_ioc_and_fok_trade_at_once_or_end(tif: str, limit: float, status: str, filled: int):
    async with running_sim() as sim:
        ib = await sim.client()
        trade = ib.placeOrder(AAPL, LimitOrder("BUY", 5, limit, tif=tif))
        await until(lambda: trade.orderStatus.status == status, status)
        assert trade.filled() == filled


async def test_good_till_date_ends_then_and_a_bad_date_is_391():
    async with running_sim() as sim:
        ib = await sim.client()
        errors = errors_of(ib)
        soon = datetime.now(UTC) + timedelta(seconds=1)
        trade = ib.placeOrder(AAPL, LimitOrder("BUY", 5, 100, tif="GTD", goodTillDate=f"{soon:%Y%m%d-%H:%M:%S}"))
        late = ib.placeOrder(AAPL, LimitOrder("BUY", 5, 100, tif="GTD", goodTillDate="20301231 15:00:00 US/Eastern"))
        bad = ib.placeOrder(AAPL, LimitOrder("BUY", 5, 100, tif="GTD", goodTillDate="tomorrow"))
        none = ib.placeOrder(AAPL, LimitOrder("BUY", 5, 100, tif="GTD"))
        past = ib.placeOrder(AAPL, LimitOrder("BUY", 5, 100, tif="GTD", goodTillDate="20200101-00:00:00"))
        await until(lambda: (past.order.orderId, 201) in errors, "error 201")
        assert {(bad.order.orderId, 391), (none.order.orderId, 391)} <= set(errors)
        await until(lambda: trade.orderStatus.status == "Cancelled", "the end of its time")
        assert late.orderStatus.status == "Submitted"


async def test_good_after_time_waits():
    async with running_sim() as sim:
        ib = await sim.client()
        soon = datetime.now(UTC) + timedelta(seconds=1.2)
        trade = ib.placeOrder(AAPL, MarketOrder("BUY", 5, goodAfterTime=f"{soon:%Y%m%d-%H:%M:%S}"))
        await until(lambda: trade.orderStatus.status == "PreSubmitted", "an order that waits")
        assert not trade.fills
        await until(lambda: trade.fills, "a fill after its time")


async def test_outside_trading_hours_an_order_is_held_with_399_and_works_at_the_opening():
    async with running_sim() as sim:
        ib = await sim.client()
        errors = errors_of(ib)
        await sim.call("POST", "/market", {"open": False})
        held = ib.placeOrder(AAPL, MarketOrder("BUY", 1))
        outside = ib.placeOrder(AAPL, LimitOrder("BUY", 1, 200, outsideRth=True))
        await until(lambda: (held.order.orderId, 399) in errors, "error 399")
        (shown,) = [t for t in await ib.reqAllOpenOrdersAsync() if t.order.orderId == held.order.orderId]
        assert shown.orderStatus.status in ("PreSubmitted", "Cancelled")  # ib_async takes 399 for an end
        await until(lambda: outside.fills, "an order that may trade outside regular hours")
        assert [e["status"] for e in await sim.journal("working")] == ["PreSubmitted", "Submitted"]
        await sim.call("POST", "/market", {"open": True})
        await until(lambda: held.fills, "a fill at the opening")


async def test_at_the_close_moc_and_loc_trade_day_orders_end_and_gtc_ones_wait():
    async with running_sim() as sim:
        ib = await sim.client()
        moc, loc, far, day, gtc = (
            ib.placeOrder(AAPL, order)
            for order in (
                Order(action="BUY", totalQuantity=1, orderType="MOC"),
                Order(action="BUY", totalQuantity=2, orderType="LOC", lmtPrice=195),
                Order(action="BUY", totalQuantity=3, orderType="LOC", lmtPrice=150),
                LimitOrder("BUY", 4, 100),
                LimitOrder("BUY", 5, 100, tif="GTC"),
            )
        )
        await until(lambda: gtc.orderStatus.status == "Submitted", "five orders")
        await sim.call("POST", "/prices", {"AAPL": "191"})
        assert not moc.fills
        await sim.call("POST", "/market", {"open": False})
        await until(lambda: gtc.orderStatus.status == "PreSubmitted", "an order that waits over night")
        assert [t.orderStatus.status for t in (moc, loc, far, day)] == ["Filled", "Filled", "Cancelled", "Cancelled"]
        assert moc.fills[0].execution.price == 191
        await sim.call("POST", "/prices", {"AAPL": "90"})
        assert not gtc.fills
        await sim.call("POST", "/market", {"open": True})
        await until(lambda: gtc.fills, "a fill in the morning")


async def test_hours_by_the_clock_are_in_the_contract_details():
    now = datetime.now(UTC)
    opens = now + timedelta(minutes=2)
    late = opens.hour == 0 or opens.hour >= 23
    hours = "01:00-22:00" if late else f"{opens:%H:%M}-23:59"
    async with running_sim(zone="UTC", hours=hours) as sim:
        ib = await sim.client()
        errors = errors_of(ib)
        assert (await sim.call("GET", "/market"))["open"] is False
        (details,) = await ib.reqContractDetailsAsync(AAPL)
        assert hours.replace(":", "")[:4] in details.tradingHours or "CLOSED" in details.tradingHours
        trade = ib.placeOrder(AAPL, MarketOrder("BUY", 1))
        await until(lambda: (trade.order.orderId, 399) in errors, "error 399")


async def test_what_if_answers_margin_and_commission_and_takes_nothing():
    async with running_sim() as sim:
        ib = await sim.client()
        state = await asyncio.wait_for(ib.whatIfOrderAsync(AAPL, MarketOrder("BUY", 100)), 3)
        assert float(state.initMarginChange) == 100 * 190 / 4
        assert float(state.commission) == 1
        assert state.status == "PreSubmitted"
        assert not await sim.journal("order")
        assert ib.client.getReqId() > 0


async def test_stop_orders_say_that_they_wait_for_their_trigger():
    async with running_sim() as sim:
        ib = await sim.client()
        trade = ib.placeOrder(AAPL, StopOrder("SELL", 3, 185))
        await until(lambda: trade.orderStatus.whyHeld == "trigger", "a stop that rests")


@pytest.mark.parametrize("forgets", [False, True])
async def test_what_was_not_transmitted_outlives_its_session_unless_the_gateway_forgets_it(
    forgets: bool, tmp_path: Path
):
    async with running_sim(journal=tmp_path / "journal") as sim:
        if forgets:
            await sim.call("POST", "/faults/forget_untransmitted", {})
        ib = await sim.client(7)
        kept = ib.placeOrder(AAPL, LimitOrder("BUY", 1, 100, transmit=False))
        sent = ib.placeOrder(AAPL, LimitOrder("BUY", 1, 90))
        await until_entries(sim, "order", 2)
        ib.client.conn.transport.abort()
        await until_entries(sim, "session_closed", 1)
        again = await sim.client(7)
        shown = {t.order.orderId for t in await again.reqAllOpenOrdersAsync()}
        assert shown == {sent.order.orderId} | (set() if forgets else {kept.order.orderId})
        assert (await again.reqCompletedOrdersAsync(False)) == []
        assert not await sim.journal("execution")
    async with running_sim(journal=tmp_path / "journal") as sim:  # and what it knows after its own restart is the same
        ib = await sim.client(7)
        assert {t.order.orderId for t in await ib.reqAllOpenOrdersAsync()} == shown
