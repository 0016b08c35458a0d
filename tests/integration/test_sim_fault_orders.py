"""Faults that befall single orders and cancels, shown through ib_async on the wire."""

from datetime import datetime

import pytest
from ib_async import IB, LimitOrder, MarketOrder, Stock

from tests.integration.sim_fixture import errors_of, running_sim, until, until_entries

AAPL = Stock("AAPL", "SMART", "USD")


async def _shown(ib: IB) -> list[int]:
    """The permIds that the gateway shows in any list."""
    trades = [*await ib.reqAllOpenOrdersAsync(), *await ib.reqCompletedOrdersAsync(False)]
    return [trade.order.permId for trade in trades]


async def test_hold_inside_shows_the_order_nowhere_and_then_takes_it():
    async with running_sim() as sim:
        ib = await sim.client()
        await sim.fault("hold_inside", next=1, ms=300)
        held = ib.placeOrder(AAPL, LimitOrder("BUY", 1, 100, orderRef="held"))
        after = ib.placeOrder(AAPL, LimitOrder("BUY", 2, 100))
        await until(lambda: after.order.permId, "the next order is taken")
        assert await _shown(ib) == [after.order.permId]
        assert [e["order_id"] for e in await sim.journal("order")] == [after.order.orderId]
        assert held.orderStatus.status == "PendingSubmit"
        await until(lambda: held.orderStatus.status == "Submitted", "the held order is taken")
        assert [e["order_ref"] for e in await sim.journal("order")] == ["", "held"]


async def test_an_order_held_inside_is_taken_although_its_session_has_ended():
    async with running_sim() as sim:
        ib = await sim.client()
        await sim.fault("hold_inside", next=1, ms=200)
        ib.placeOrder(AAPL, MarketOrder("BUY", 1, orderRef="late"))
        await until_entries(sim, "fault", 2)
        ib.client.conn.transport.abort()
        again = await sim.client()
        first = again.client.getReqId()
        assert await _shown(again) == []
        await until_entries(sim, "execution", 1)
        (taken,) = await sim.journal("order")
        assert (taken["order_ref"], taken["order_id"] < first, taken["session"]) == ("late", True, 1)
        await until(again.fills, "the new session under the same clientId is told")


async def test_each_order_may_be_held_inside_for_a_time_of_its_own():
    async with running_sim() as sim:
        ib = await sim.client()
        await sim.fault("hold_inside", next=4, ms=20, most_ms=300)
        for _ in range(4):
            ib.placeOrder(AAPL, MarketOrder("BUY", 1))
        read = [entry for entry in await until_entries(sim, "fault", 5) if "order_id" in entry]
        taken = {entry["order_id"]: entry["at"] for entry in await until_entries(sim, "order", 4)}
        inside = [(_time(taken[e["order_id"]]) - _time(e["at"])).total_seconds() for e in read]
        assert min(inside) >= 0.02
        assert max(inside) - min(inside) > 0.05
        assert await sim.journal("rejected") == []


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


async def test_the_same_id_again_while_the_first_is_held_inside_is_its_modification():
    async with running_sim() as sim:
        ib = await sim.client()
        await sim.fault("hold_inside", next=1, ms=200)
        order = LimitOrder("BUY", 1, 100, orderId=ib.client.getReqId(), orderRef="same")
        for _ in range(2):
            ib.client.placeOrder(order.orderId, AAPL, order)
        await until_entries(sim, "modify", 1)
        assert len(await sim.journal("order")) == 1
        assert await sim.journal("rejected") == []


async def test_twin_is_one_reference_with_two_perm_ids_and_each_is_cancelled_by_its_own_cancel():
    async with running_sim() as sim:
        ib = await sim.client()
        await sim.fault("twin", next=1)
        trade = ib.placeOrder(AAPL, LimitOrder("BUY", 1, 100, orderRef="pa.TAGX.1.ABC"))
        taken = await until_entries(sim, "order", 2)
        assert [e["order_ref"] for e in taken] == ["pa.TAGX.1.ABC"] * 2
        assert [e.get("code") for e in taken] == [None, "twin"]
        assert taken[0]["perm_id"] != taken[1]["perm_id"]
        assert taken[0]["order_id"] == taken[1]["order_id"]
        seen: list[int] = []
        ib.wrapper.orderStatus = lambda _id, status, *rest: seen.append(rest[3]) if status == "Cancelled" else None
        for number, entry in enumerate(taken, 1):
            ib.client.cancelOrder(trade.order.orderId)
            await until(lambda number=number: len(seen) == number, "a cancelled order")
            assert seen[-1] == entry["perm_id"]
        assert await _shown(ib) == [entry["perm_id"] for entry in taken]


async def test_twins_of_a_market_order_are_both_filled():
    async with running_sim() as sim:
        ib = await sim.client()
        await sim.fault("twin")
        ib.placeOrder(AAPL, MarketOrder("BUY", 5))
        await until_entries(sim, "execution", 2)
        assert [p.position for p in await ib.reqPositionsAsync()] == [10]


async def test_inactive_lives_and_works_once_it_is_changed():
    async with running_sim() as sim:
        ib = await sim.client()
        await sim.fault("inactive", next=1)
        trade = ib.placeOrder(AAPL, MarketOrder("BUY", 5))
        await until(lambda: trade.orderStatus.status == "Inactive", "an inactive order")
        assert [t.order.permId for t in await ib.reqAllOpenOrdersAsync()] == [trade.order.permId]
        assert not trade.fills
        ib.client.placeOrder(trade.order.orderId, AAPL, trade.order)
        await until(lambda: trade.fills, "it works after a change")


@pytest.mark.parametrize("code", [10349, 110, 2109])
async def test_warn_is_an_error_about_an_order_that_lives_on(code: int):
    async with running_sim() as sim:
        ib = await sim.client()
        errors = errors_of(ib)
        await sim.fault("warn", next=1, code=code)
        trade = ib.placeOrder(AAPL, LimitOrder("BUY", 5, 100))
        await until(lambda: (trade.order.orderId, code) in errors, f"error {code}")
        (live,) = (await sim.call("GET", "/orders"))["orders"]
        assert live["state"] == "Submitted"
        await sim.call("POST", "/prices", {"AAPL": "99"})
        await until(lambda: trade.fills, "it trades although ib_async may think it cancelled")


async def test_pending_cancel_may_still_fill():
    async with running_sim() as sim:
        ib = await sim.client()
        errors = errors_of(ib)
        await sim.fault("pending_cancel", ms=100, fill=True)
        trade = ib.placeOrder(AAPL, LimitOrder("BUY", 5, 100))
        await until(lambda: trade.orderStatus.status == "Submitted", "a resting order")
        ib.client.cancelOrder(trade.order.orderId)
        await until(lambda: trade.orderStatus.status == "PendingCancel", "a cancel under way")
        ib.client.cancelOrder(trade.order.orderId)
        await until(lambda: (trade.order.orderId, 161) in errors, "161 for a second cancel")
        await until(lambda: trade.orderStatus.status == "Filled", "a fill instead of the cancel")
        await until(lambda: (trade.order.orderId, 10148) in errors, "10148 for the cancel that came too late")
        assert (await sim.call("GET", "/orders"))["orders"][0]["state"] == "Filled"


async def test_a_cancel_that_takes_its_time_leaves_the_order_in_the_market():
    async with running_sim() as sim:
        ib = await sim.client()
        await sim.fault("pending_cancel", ms=100)
        filled, cancelled = (ib.placeOrder(AAPL, LimitOrder("BUY", 5, limit)) for limit in (101, 100))
        await until(lambda: cancelled.orderStatus.status == "Submitted", "resting orders")
        for trade in (filled, cancelled):
            ib.client.cancelOrder(trade.order.orderId)
        await until(lambda: cancelled.orderStatus.status == "PendingCancel", "cancels under way")
        await sim.call("POST", "/prices", {"AAPL": "100.50"})
        await until(lambda: filled.orderStatus.status == "Filled", "the first is filled meanwhile")
        await until(lambda: cancelled.orderStatus.status == "Cancelled", "the second is cancelled")


async def test_several_faults_at_once():
    async with running_sim() as sim:
        ib = await sim.client()
        await sim.fault("delay", ms=50)
        await sim.fault("duplicate_callbacks")
        await sim.fault("reorder_callbacks")
        await sim.fault("drop_acks", next=1)
        await sim.fault("twin", next=2)
        await sim.fault("unknown_zone")
        assert len((await sim.call("GET", "/faults"))["faults"]) == 6
        statuses: list[tuple[int, str]] = []
        ib.wrapper.orderStatus = lambda order_id, status, *_: statuses.append((order_id, status))
        silent = ib.placeOrder(AAPL, MarketOrder("BUY", 1)).order.orderId
        told = ib.placeOrder(AAPL, MarketOrder("BUY", 1)).order.orderId
        await until(lambda: statuses.count((told, "Filled")) == 4, "both twins of the second order, each told twice")
        assert silent not in [order_id for order_id, _ in statuses]
        assert len(await sim.journal("execution")) == 4


async def test_a_change_during_an_outage_may_come_back_as_a_second_order_beside_the_first():
    async with running_sim() as sim:
        ib = await sim.client()
        trade = ib.placeOrder(AAPL, LimitOrder("BUY", 1, 100, orderRef="one"))
        await until(lambda: trade.orderStatus.status == "Submitted", "a resting order")
        await sim.fault("twin", of="changes")
        await sim.fault("link_down")
        trade.order.lmtPrice = 101
        ib.client.placeOrder(trade.order.orderId, AAPL, trade.order)
        await ib.reqCurrentTimeAsync()
        assert [one["limit_price"] for one in (await sim.call("GET", "/orders"))["orders"]] == ["100"]
        await sim.mend("link_down")
        first, second = await until_entries(sim, "order", 2)
        assert (second["code"], second["order_id"], second["order_ref"]) == ("twin", trade.order.orderId, "one")
        live = (await sim.call("GET", "/orders"))["orders"]
        assert [(one["perm_id"], one["limit_price"]) for one in live] == [
            (first["perm_id"], "100"),
            (second["perm_id"], "101"),
        ]
        ib.client.cancelOrder(trade.order.orderId)
        await until_entries(sim, "cancelled", 1)
        (survivor,) = await ib.reqAllOpenOrdersAsync()
        assert (survivor.order.permId, survivor.order.orderRef) == (second["perm_id"], "one")
