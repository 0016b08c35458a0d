"""Who sees and may change which order; error codes of refused changes, through ib_async on the wire."""

import pytest
from ib_async import IB, LimitOrder, MarketOrder, Order, PriceCondition, Stock

from ibsim.messages import ANSWERS
from ibsim.sessions import MAX_CLIENTS
from tests.integration.sim_fixture import errors_of, running_sim, until, until_entries

AAPL = Stock("AAPL", "SMART", "USD")
MSFT = Stock("MSFT", "SMART", "USD")


async def test_a_change_that_is_none_is_refused_by_its_code_and_the_order_lives_on():
    async with running_sim() as sim:
        ib = await sim.client()
        errors = errors_of(ib)
        filled = ib.placeOrder(AAPL, MarketOrder("BUY", 5))
        live = ib.placeOrder(AAPL, LimitOrder("BUY", 5, 100))
        await until(lambda: live.orderStatus.status == "Submitted", "a resting order")
        wrong = {
            105: (MSFT, LimitOrder("BUY", 5, 100)),
            329: (AAPL, MarketOrder("BUY", 5)),
            110: (AAPL, LimitOrder("BUY", 5, 100.001)),
            328: (AAPL, LimitOrder("BUY", 5, 100, tif="OPG")),
            104: (AAPL, LimitOrder("BUY", 0, 100)),  # not more than what is filled: nothing is left to change
        }
        for code, (contract, order) in wrong.items():
            ib.client.placeOrder(live.order.orderId, contract, order)
            await until(lambda code=code: (live.order.orderId, code) in errors, f"error {code}")
        errors.clear()
        ib.client.placeOrder(filled.order.orderId, AAPL, filled.order)
        await until(lambda: (filled.order.orderId, 104) in errors, "error 104")
        ib.client.placeOrder(filled.order.orderId, AAPL, LimitOrder("SELL", 5, 300, orderRef="another"))
        await until(lambda: (filled.order.orderId, 103) in errors, "error 103")
        states = {o["order_id"]: o["state"] for o in (await sim.call("GET", "/orders"))["orders"]}
        assert states == {filled.order.orderId: "Filled", live.order.orderId: "Submitted"}
        assert not await sim.journal("modify")


async def test_order_references_need_not_be_unique():
    async with running_sim() as sim:
        ib = await sim.client()
        for _ in range(2):
            ib.placeOrder(AAPL, LimitOrder("BUY", 5, 100, orderRef="twice"))
        taken = await until_entries(sim, "order", 2)
        assert {entry["order_ref"] for entry in taken} == {"twice"}


async def test_a_new_order_id_may_skip_but_not_go_back():
    async with running_sim() as sim:
        ib = await sim.client()
        errors = errors_of(ib)
        ib.client.placeOrder(500, AAPL, LimitOrder("BUY", 5, 100))
        ib.client.placeOrder(499, AAPL, LimitOrder("BUY", 5, 100))
        await until(lambda: (499, 103) in errors, "error 103")
        ids: list[int] = []
        ib.wrapper.nextValidId = ids.append
        ib.client.reqIds(1)
        await until(lambda: ids == [501], "the next valid id")


async def test_the_master_client_hears_of_every_order():
    async with running_sim(master_client_id=9) as sim:
        master, ib = await sim.client(9), await sim.client(1)
        trade = ib.placeOrder(AAPL, MarketOrder("BUY", 5, orderRef="x"))
        await until(lambda: trade.fills, "a fill")
        await until(master.fills, "the master hears of it")
        assert master.fills()[0].execution.clientId == 1
        by_hand = {"symbol": "AAPL", "side": "BUY", "quantity": "1"}
        await sim.call("POST", "/orders", by_hand, status=201)
        await until(lambda: len(master.fills()) == 2, "and of an order by hand")
        assert len(ib.fills()) == 1


async def test_client_0_binds_orders_placed_by_hand_and_may_then_cancel_them():
    async with running_sim() as sim:
        zero, one = await sim.client(0), await sim.client(1)
        errors = errors_of(one)
        one.client.reqAutoOpenOrders(True)
        await until(lambda: (-1, 327) in errors, "327 for any other client")
        zero.client.reqAutoOpenOrders(False)
        await zero.reqCurrentTimeAsync()
        before = {"symbol": "AAPL", "side": "BUY", "quantity": "1", "limit_price": "100"}
        await sim.call("POST", "/orders", before, status=201)
        bound: list[tuple[int, ...]] = []
        zero.wrapper.orderBound = lambda *args: bound.append(args)
        await zero.reqOpenOrdersAsync()
        assert len(bound) == 1
        zero.client.reqAutoOpenOrders(True)
        placed = await sim.call("POST", "/orders", {**before, "limit_price": "99"}, status=201)
        await until(lambda: len(bound) == 2, "an order that is bound as it comes")
        assert bound[1] == (placed["perm_id"], 0, placed["order_id"])
        assert placed["order_id"] < 0
        for _, _, order_id in bound:
            zero.client.cancelOrder(order_id)
        await until_entries(sim, "cancelled", 2)


async def test_thirty_two_clients_at_most():
    async with running_sim() as sim:
        clients = [await sim.client(number) for number in range(1, MAX_CLIENTS + 1)]
        late = IB()
        errors = errors_of(late)
        try:
            with pytest.raises(TimeoutError):
                await late.connectAsync("127.0.0.1", sim.port, 99, timeout=0.5)
            assert (-1, 504) in errors
        finally:
            late.disconnect()
        assert [e["code"] for e in await sim.journal("session_refused")] == [504]
        clients[0].disconnect()
        await until_entries(sim, "session_closed", 1)
        assert (await sim.client(99)).isConnected()


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"conditions": [PriceCondition(price=1, conId=265598)]}, "conditions"),
        ({"hedgeType": "D"}, "hedging"),
        ({"deltaNeutralOrderType": "MKT"}, "delta-neutral"),
        ({"scaleInitLevelSize": 5, "scalePriceIncrement": 0.1}, "scale"),
        ({"adjustedOrderType": "STP"}, "adjusted"),
    ],
)
async def test_an_order_that_asks_for_what_is_not_served_is_refused_in_words(fields: dict[str, object], word: str):
    async with running_sim() as sim:
        ib = await sim.client()
        errors: list[tuple[int, str]] = []
        ib.errorEvent += lambda _about, code, text, *_: errors.append((code, text))
        ib.placeOrder(AAPL, Order(action="BUY", totalQuantity=1, orderType="MKT", **fields))
        await until(lambda: errors, "an error")
        assert errors[0][0] == 321
        assert word in errors[0][1]
        assert [entry["code"] for entry in await sim.journal("rejected")] == [321]


async def test_order_ids_repeat_in_an_account_and_perm_ids_do_not():
    async with running_sim() as sim:
        for client_id in (1, 2):
            ib = await sim.client(client_id)
            ib.client.placeOrder(7, AAPL, LimitOrder("BUY", 1, 100))
        first, second = await until_entries(sim, "order", 2)
        assert first["order_id"] == second["order_id"] == 7
        assert first["perm_id"] != second["perm_id"]


async def test_the_reference_comes_back_in_every_list_and_not_in_order_status():
    async with running_sim() as sim:
        ib = await sim.client()
        resting = ib.placeOrder(AAPL, LimitOrder("BUY", 1, 100, orderRef="rests"))
        filled = ib.placeOrder(AAPL, MarketOrder("BUY", 1, orderRef="done"))
        await until(lambda: filled.fills and resting.order.permId, "a fill and a resting order")
        again = await sim.client(2)
        assert [trade.order.orderRef for trade in await again.reqAllOpenOrdersAsync()] == ["rests"]
        assert [trade.order.orderRef for trade in await again.reqCompletedOrdersAsync(False)] == ["done"]
        assert [fill.execution.orderRef for fill in await again.reqExecutionsAsync()] == ["done"]
        _, layout = ANSWERS["orderStatus"]
        assert "orderRef" not in " ".join(str(part) for part in layout.parts)


async def test_a_completed_order_has_neither_order_id_nor_client_and_a_filled_one_no_quantity():
    async with running_sim() as sim:
        ib = await sim.client(3)
        filled = ib.placeOrder(AAPL, MarketOrder("BUY", 5))
        await until(lambda: filled.fills, "a fill")
        again = await sim.client(4)
        (done,) = await again.reqCompletedOrdersAsync(False)
        assert (done.order.orderId, done.order.clientId, done.order.permId) == (0, 0, filled.order.permId)
        assert (done.order.totalQuantity, done.order.filledQuantity) == (0, 5)


async def test_all_open_orders_are_shown_once_and_not_followed():
    async with running_sim() as sim:
        mine, other = await sim.client(1), await sim.client(2)
        trade = mine.placeOrder(AAPL, LimitOrder("BUY", 1, 100))
        await until(lambda: trade.order.permId, "a permId")
        assert len(await other.reqAllOpenOrdersAsync()) == 1
        heard: list[str] = []
        other.wrapper.orderStatus = lambda _id, status, *_: heard.append(status)
        mine.cancelOrder(trade.order)
        await until(lambda: trade.orderStatus.status == "Cancelled", "a cancelled order")
        await other.reqCurrentTimeAsync()
        assert heard == []
