"""Orders on the wire, through ib_async."""

import logging
from decimal import Decimal

import pytest
from ib_async import IB, LimitOrder, MarketOrder, Order, StartupFetchALL, Stock, StopOrder

from ibsim.book import Rules
from tests.integration.sim_fixture import running_sim, until

AAPL = Stock("AAPL", "SMART", "USD")


@pytest.fixture(autouse=True)
def no_decoder_errors(caplog: pytest.LogCaptureFixture):
    """Whatever ib_async could not decode is a defect of the stand-in."""
    with caplog.at_level(logging.ERROR, logger="ib_async.Decoder"):
        yield
    broken = [record.getMessage() for record in caplog.records if record.name == "ib_async.Decoder"]
    assert not broken, broken


async def test_connect_with_every_start_up_request_answered():
    async with running_sim() as sim:
        ib = await sim.client(1, fetchFields=StartupFetchALL)
        assert ib.client.serverVersion() == 178
        assert ib.managedAccounts() == ["DU1234567"]
        assert {value.tag for value in ib.accountValues()} >= {"NetLiquidation", "BuyingPower"}


# not 158: ib_async reads openOrder's duration from 159 on, the API from 158; test_sim_clients has every version
@pytest.mark.parametrize("version", [157, 159, 160, 162, 163, 164, 166, 169, 170, 176, 177, 178])
async def test_every_server_version_places_fills_and_lists(version: int):
    async with running_sim() as sim:
        ib = IB()
        ib.client.MaxClientVersion = version
        try:
            await ib.connectAsync("127.0.0.1", sim.port, 5, timeout=3, raiseSyncErrors=True)
            assert ib.client.serverVersion() == version
            trade = ib.placeOrder(AAPL, MarketOrder("BUY", 10, orderRef="r1"))
            rest = ib.placeOrder(AAPL, LimitOrder("BUY", 1, 100))
            await until(lambda: trade.fills and rest.orderStatus.status == "Submitted", "a fill and a resting order")
            assert [t.order.permId for t in await ib.reqAllOpenOrdersAsync()] == [rest.order.permId]
            (done,) = await ib.reqCompletedOrdersAsync(False)
            assert (done.order.permId, done.order.orderRef) == (trade.order.permId, "r1")
            assert (done.order.totalQuantity, done.order.filledQuantity) == (0, 10)
            (fill,) = await ib.reqExecutionsAsync()
            assert fill.execution.execId == trade.fills[0].execution.execId
            assert len(await ib.reqContractDetailsAsync(AAPL)) == 1
            assert (await ib.reqMatchingSymbolsAsync("AAP"))[0].contract.conId == 265598
        finally:
            ib.disconnect()


async def test_a_market_order_is_acknowledged_then_executed_then_filled_then_charged():
    async with running_sim() as sim:
        ib = await sim.client()
        seen: list[str] = []
        for name in ("openOrder", "orderStatus", "execDetails", "commissionReport"):
            _record(ib, name, seen)
        trade = ib.placeOrder(AAPL, MarketOrder("BUY", 10, orderRef="pa.x"))
        await until(lambda: "commissionReport" in seen, "a commission report")
        assert seen == ["openOrder PreSubmitted", "orderStatus PreSubmitted", "execDetails", "openOrder Filled",
                        "orderStatus Filled", "commissionReport"]  # fmt: skip
        execution = trade.fills[0].execution
        assert (execution.shares, execution.price, execution.orderRef) == (10, 190, "pa.x")
        assert execution.execId.count(".") == 3
        assert execution.execId.endswith(".01.01")
        assert [e["kind"] for e in await sim.journal() if "perm_id" in e] == ["order", "working", "execution"]


def _record(ib, name: str, seen: list[str]) -> None:
    original = getattr(ib.wrapper, name)

    def recorded(*args):
        status = {"openOrder": lambda: " " + args[3].status, "orderStatus": lambda: " " + args[1]}
        seen.append(name + status.get(name, lambda: "")())
        original(*args)

    setattr(ib.wrapper, name, recorded)


async def test_a_limit_rests_until_the_price_crosses_and_a_partial_fill_is_told():
    async with running_sim() as sim:
        ib = await sim.client()
        trade = ib.placeOrder(AAPL, LimitOrder("BUY", 10, 189))
        await until(lambda: trade.orderStatus.status == "Submitted", "an order that rests")
        await sim.call("POST", "/prices", {"AAPL": {"price": "188.90", "size": "4"}})
        await until(lambda: trade.orderStatus.filled == 4, "4 of 10 filled")
        assert (trade.orderStatus.status, trade.orderStatus.remaining) == ("Submitted", 6)
        await sim.call("POST", "/prices", {"AAPL": "188.50"})
        await until(trade.isDone, "all filled")
        assert [f.execution.cumQty for f in trade.fills] == [4, 10]
        assert trade.orderStatus.avgFillPrice == pytest.approx((4 * 188.9 + 6 * 188.5) / 10)


async def test_a_stop_rests_until_triggered():
    async with running_sim() as sim:
        ib = await sim.client()
        trade = ib.placeOrder(AAPL, StopOrder("SELL", 3, 185))
        await until(lambda: trade.orderStatus.status == "PreSubmitted", "a stop that rests")
        await sim.call("POST", "/prices", {"AAPL": "184.00"})
        await until(lambda: trade.fills, "a triggered stop")
        assert trade.fills[0].execution.price == 184


async def test_fill_size_and_fill_delay_split_and_postpone_a_fill():
    async with running_sim(rules=Rules(fill_delay=0.05, fill_size=Decimal(4))) as sim:
        ib = await sim.client()
        trade = ib.placeOrder(AAPL, MarketOrder("BUY", 10))
        await until(lambda: trade.orderStatus.status == "PreSubmitted", "taken and not filled")
        assert not trade.fills
        await until(trade.isDone, "filled")
        assert [f.execution.shares for f in trade.fills] == [4, 4, 2]


async def test_the_same_id_modifies_and_a_used_one_is_a_duplicate():
    async with running_sim() as sim:
        ib = await sim.client()
        trade = ib.placeOrder(AAPL, LimitOrder("BUY", 10, 100))
        await until(lambda: trade.order.permId, "a permId")
        trade.order.lmtPrice = 101
        ib.placeOrder(AAPL, trade.order)
        await until(lambda: trade.log[-1].message == "Modified", "a modification")
        (modified,) = await sim.journal("modify")
        assert (modified["price"], modified["perm_id"]) == ("101", trade.order.permId)
        ib.cancelOrder(trade.order)
        await until(lambda: trade.log[-1].errorCode == 202 or trade.orderStatus.status == "Cancelled", "a cancel")
        errors = _errors(ib)
        ib.client.placeOrder(trade.order.orderId, AAPL, LimitOrder("BUY", 1, 100))
        await until(lambda: (trade.order.orderId, 103) in errors, "error 103")
        assert len(await sim.journal("order")) == 1


def _errors(ib) -> list[tuple[int, int]]:
    errors: list[tuple[int, int]] = []
    ib.errorEvent += lambda about, code, *_: errors.append((about, code))
    return errors


async def test_orders_may_be_cancelled_only_by_the_client_that_placed_them_but_for_the_global_cancel():
    async with running_sim() as sim:
        mine, other = await sim.client(1), await sim.client(2)
        trade = mine.placeOrder(AAPL, LimitOrder("BUY", 10, 100))
        await until(lambda: trade.order.permId, "a permId")
        errors = _errors(other)
        other.client.cancelOrder(trade.order.orderId)
        await until(lambda: (trade.order.orderId, 10147) in errors, "error 10147")
        assert not await other.reqOpenOrdersAsync()
        assert len(await other.reqAllOpenOrdersAsync()) == 1
        other.reqGlobalCancel()
        await until(lambda: trade.orderStatus.status == "Cancelled", "a global cancel")
        mine_errors = _errors(mine)
        mine.client.cancelOrder(trade.order.orderId)
        await until(lambda: (trade.order.orderId, 10148) in mine_errors, "error 10148")


@pytest.mark.parametrize(
    ("symbol", "order", "code"),
    [
        ("NOPE", Order(action="BUY", totalQuantity=1, orderType="MKT"), 200),
        ("AAPL", Order(action="BUY", totalQuantity=1, orderType="LMT", lmtPrice=1.001), 110),
        ("AAPL", Order(action="BUY", totalQuantity=1, orderType="LMT", lmtPrice=0.1 + 0.2), 110),
        ("AAPL", Order(action="BUY", totalQuantity=1, orderType="REL"), 387),
        ("AAPL", Order(action="BUY", totalQuantity=0, orderType="MKT"), 434),
    ],
)
async def test_an_order_that_is_not_taken_is_answered_and_never_in_the_book(symbol: str, order: Order, code: int):
    async with running_sim() as sim:
        ib = await sim.client()
        errors = _errors(ib)
        trade = ib.placeOrder(Stock(symbol, "SMART", "USD"), order)
        await until(lambda: (trade.order.orderId, code) in errors, f"error {code}")
        assert not await sim.journal("order")
        assert [e["code"] for e in await sim.journal("rejected")] == [code]


async def test_positions_and_average_cost_follow_the_executions():
    async with running_sim() as sim:
        ib = await sim.client()
        for side, quantity, price in (("BUY", 10, "190"), ("BUY", 10, "192"), ("SELL", 5, "195")):
            await sim.call("POST", "/prices", {"AAPL": price})
            trade = ib.placeOrder(AAPL, MarketOrder(side, quantity))
            await until(trade.isDone, "a fill")
        (held,) = (await sim.call("GET", "/positions"))["positions"]
        assert (held["quantity"], held["average_cost"]) == ("15", "191.1")
        (told,) = await ib.reqPositionsAsync()
        assert (told.position, told.avgCost) == (15, 191.1)


async def test_an_order_by_hand_belongs_to_nobody_of_ours():
    async with running_sim() as sim:
        ib = await sim.client()
        body = {"symbol": "AAPL", "side": "BUY", "quantity": "7", "order_type": "LMT", "limit_price": "100"}
        placed = await sim.call("POST", "/orders", body, status=201)
        (trade,) = await ib.reqAllOpenOrdersAsync()
        assert (trade.order.permId, trade.order.orderRef, trade.order.clientId) == (placed["perm_id"], "", 0)
        assert not await ib.reqOpenOrdersAsync()
        await sim.call("DELETE", f"/orders/{placed['perm_id']}")
        assert (await sim.call("GET", "/orders"))["orders"][0]["state"] == "Cancelled"


async def test_a_request_that_is_not_served_is_refused_and_named():
    async with running_sim() as sim:
        ib = await sim.client()
        errors = _errors(ib)
        ib.client.reqHeadTimeStamp(77, AAPL, "TRADES", 1, 1)
        await until(lambda: (77, 321) in errors, "error 321")
        (entry,) = await sim.journal("fault")
        assert entry["request"] == "reqHeadTimeStamp"
