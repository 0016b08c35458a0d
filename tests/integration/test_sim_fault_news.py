"""Faults in what the gateway tells and shows, shown through ib_async on the wire."""

import logging

import pytest
from ib_async import IB, ExecutionFilter, LimitOrder, MarketOrder, Stock

from tests.integration.sim_fixture import Sim, errors_of, running_sim, until, until_entries

AAPL = Stock("AAPL", "SMART", "USD")


def _callbacks(ib: IB) -> list[str]:
    """The names of the callbacks about orders, as they come."""
    seen: list[str] = []
    for name in ("openOrder", "orderStatus", "execDetails", "commissionReport"):
        method = getattr(ib.wrapper, name)

        def record(*args, name: str = name, method=method) -> None:
            seen.append(f"{name} {args[1]}" if name == "orderStatus" else name)
            method(*args)

        setattr(ib.wrapper, name, record)
    return seen


REQUESTS = {
    "executions": lambda ib: ib.client.reqExecutions(1 << 30, ExecutionFilter()),
    "open_orders": lambda ib: ib.client.reqAllOpenOrders(),
    "completed": lambda ib: ib.client.reqCompletedOrders(False),
    "positions": lambda ib: ib.client.reqPositions(),
    "account_summary": lambda ib: ib.client.reqAccountSummary(77, "All", "NetLiquidation"),
}
ENDS = {
    "executions": ("execDetails", "execDetailsEnd"),
    "open_orders": ("openOrder", "openOrderEnd"),
    "completed": ("completedOrder", "completedOrdersEnd"),
    "positions": ("position", "positionEnd"),
    "account_summary": ("accountSummary", "accountSummaryEnd"),
}


@pytest.mark.parametrize("request_name", sorted(REQUESTS))
async def test_no_end_sends_the_list_and_never_its_end(request_name: str):
    async with running_sim() as sim:
        ib = await sim.client()
        ib.placeOrder(AAPL, LimitOrder("BUY", 1, 100))
        filled = ib.placeOrder(AAPL, MarketOrder("BUY", 1))
        await until(lambda: filled.fills, "a fill")
        await sim.fault("no_end", request=request_name)
        item, end = ENDS[request_name]
        seen: list[str] = []
        for name in (item, end):
            setattr(ib.wrapper, name, lambda *_, name=name: seen.append(name))
        REQUESTS[request_name](ib)
        await ib.reqCurrentTimeAsync()
        assert seen == [item]
        await sim.mend("no_end")
        REQUESTS[request_name](ib)
        await until(lambda: end in seen, "an end after the mending")


async def test_duplicate_callbacks_come_twice_and_mean_one_execution():
    async with running_sim() as sim:
        ib = await sim.client()
        seen = _callbacks(ib)
        await sim.fault("duplicate_callbacks")
        trade = ib.placeOrder(AAPL, MarketOrder("BUY", 1))
        await until(lambda: seen.count("commissionReport") == 2, "two commission reports")
        assert seen.count("execDetails") == 2
        assert seen.count("orderStatus Filled") == 2
        assert len(await sim.journal("execution")) == 1
        assert len(trade.fills) == 1


async def test_reorder_callbacks_says_filled_before_its_execution():
    async with running_sim() as sim:
        ib = await sim.client()
        seen = _callbacks(ib)
        await sim.fault("reorder_callbacks")
        ib.placeOrder(AAPL, MarketOrder("BUY", 1))
        await until(lambda: "commissionReport" in seen, "a commission report")
        assert seen.index("orderStatus Filled") < seen.index("execDetails")


@pytest.mark.parametrize("order", [MarketOrder("BUY", 1), LimitOrder("BUY", 1, 200)])
async def test_skip_statuses_leaves_the_execution_as_the_only_sure_word(order):
    async with running_sim() as sim:
        ib = await sim.client()
        seen = _callbacks(ib)
        await sim.fault("skip_statuses")
        trade = ib.placeOrder(AAPL, order)
        await until(lambda: "commissionReport" in seen, "a commission report")
        statuses = [one for one in seen if one.startswith("orderStatus")]
        assert statuses == ([] if order.orderType == "MKT" else ["orderStatus Filled"])
        assert trade.filled() == 1


async def test_unknown_zone_makes_ib_async_drop_the_execution(caplog: pytest.LogCaptureFixture):
    async with running_sim() as sim:
        ib = await sim.client()
        await sim.fault("unknown_zone")
        with caplog.at_level(logging.CRITICAL, logger="ib_async.Decoder"):
            trade = ib.placeOrder(AAPL, MarketOrder("BUY", 1))
            await until(lambda: trade.orderStatus.status == "Filled", "a filled order")
            assert ib.fills() == []
            assert await ib.reqExecutionsAsync() == []
        await sim.mend("unknown_zone")
        assert len(await ib.reqExecutionsAsync()) == 1


@pytest.mark.parametrize(
    ("form", "shape"),
    [
        ("zoned", r"\d{8} \d\d:\d\d:\d\d America/New_York"),
        ("bare", r"\d{8}  \d\d:\d\d:\d\d"),
        ("utc", r"\d{8}-\d\d:\d\d:\d\d"),
    ],
)
async def test_execution_times_come_in_three_forms(form: str, shape: str):
    async with running_sim() as sim:
        ib = await sim.client()
        await sim.call("POST", "/settings", {"time_form": form})
        texts: list[str] = []
        handler = ib.client.decoder.handlers[11]
        ib.client.decoder.handlers[11] = lambda fields: (texts.append(fields[15]), handler(fields))
        trade = ib.placeOrder(AAPL, MarketOrder("BUY", 1))
        await until(lambda: trade.fills, "a fill")
        await ib.reqExecutionsAsync()
        assert len(texts) == 2
        import re

        assert all(re.fullmatch(shape, text) for text in texts), texts


@pytest.mark.parametrize("when", ["after", "before"])
async def test_commission_reports_come_after_or_before_their_execution(when: str):
    async with running_sim() as sim:
        ib = await sim.client()
        await sim.call("POST", "/settings", {"commission": when})
        seen = _callbacks(ib)
        ib.placeOrder(AAPL, MarketOrder("BUY", 1))
        await until(lambda: "commissionReport" in seen and "execDetails" in seen, "execution and commission")
        assert (seen.index("commissionReport") < seen.index("execDetails")) == (when == "before")
        seen.clear()
        await ib.reqExecutionsAsync()
        assert (seen.index("commissionReport") < seen.index("execDetails")) == (when == "before")


async def test_a_correction_repeats_the_execution_under_a_higher_revision_and_moves_the_position():
    async with running_sim() as sim:
        ib = await sim.client()
        trade = ib.placeOrder(AAPL, MarketOrder("BUY", 10))
        await until(lambda: trade.fills, "a fill")
        first = trade.fills[0].execution.execId
        await sim.fault("correction", exec_id=first, quantity="8", price="189.50")
        await until(lambda: len(trade.fills) == 2, "the correction")
        corrected = trade.fills[1].execution
        assert (corrected.execId, corrected.shares, corrected.price) == (first[:-2] + "02", 8, 189.5)
        (entry,) = await sim.journal("correction")
        assert (entry["exec_id"], entry["quantity"], entry["was"]["quantity"]) == (corrected.execId, "8", "10")
        (held,) = (await sim.call("GET", "/positions"))["positions"]
        assert held["quantity"] == "8"
        assert (await sim.call("GET", "/orders"))["orders"][0]["filled"] == "8"
        assert [fill.execution.execId for fill in await ib.reqExecutionsAsync()] == [first, corrected.execId]
        await sim.fault("correction", exec_id=corrected.execId, quantity="10")
        assert (await sim.call("GET", "/positions"))["positions"][0]["quantity"] == "10"
        assert [e["exec_id"][-2:] for e in await sim.journal("correction")] == ["02", "03"]


async def test_a_correction_of_nothing_is_refused():
    async with running_sim() as sim:
        await sim.call("POST", "/faults/correction", {"exec_id": "0000e0d5.1.01.01", "quantity": "1"}, status=400)
        await sim.call("POST", "/faults/correction", {"quantity": "-1"}, status=400)
        assert not await sim.journal()


async def test_midnight_takes_the_days_executions_and_completed_orders_away():
    async with running_sim() as sim:
        ib = await sim.client()
        trade = ib.placeOrder(AAPL, MarketOrder("BUY", 10))
        await until(lambda: trade.fills, "a fill")
        await sim.fault("midnight")
        assert await ib.reqExecutionsAsync() == []
        assert await ib.reqCompletedOrdersAsync(False) == []
        assert [p.position for p in await ib.reqPositionsAsync()] == [10]
        assert len(await sim.journal("execution")) == 1
        again = ib.placeOrder(AAPL, MarketOrder("BUY", 1))
        await until(lambda: again.fills, "a fill of the new day")
        assert len(await ib.reqExecutionsAsync()) == 1


async def test_stale_orders_shows_open_orders_as_they_were():
    async with running_sim() as sim:
        ib = await sim.client()
        trade = ib.placeOrder(AAPL, LimitOrder("BUY", 1, 100))
        await until(lambda: trade.orderStatus.status == "Submitted", "a resting order")
        await sim.fault("stale_orders")
        ib.cancelOrder(trade.order)
        await until(lambda: trade.orderStatus.status == "Cancelled", "a cancelled order")
        assert await _own(ib, sim) == [trade.order.permId]
        await sim.mend("stale_orders")
        assert await _own(ib, sim) == []


async def _own(ib: IB, sim: Sim) -> list[int]:
    """The permIds that reqOpenOrders shows, as the raw callback has them."""
    seen: list[int] = []
    ended: list[bool] = []
    ib.wrapper.openOrder = lambda _id, _contract, order, _state: seen.append(order.permId)
    ib.wrapper.openOrderEnd = lambda: ended.append(True)
    ib.client.reqOpenOrders()
    await until(lambda: ended, "the end of the open orders")
    return seen


async def test_farm_down_is_news_that_means_nothing_for_orders():
    async with running_sim() as sim:
        ib = await sim.client()
        errors = errors_of(ib)
        await sim.fault("farm_down")
        await until(lambda: {(-1, 2103), (-1, 2105)} <= set(errors), "2103 and 2105")
        trade = ib.placeOrder(AAPL, MarketOrder("BUY", 1))
        await until(lambda: trade.fills, "a fill all the same")
        await sim.mend("farm_down")
        await until(lambda: (-1, 2104) in errors, "2104")


async def test_a_percentage_strikes_as_the_seed_says():
    struck: list[list[bool]] = []
    for seed in (7, 7, 8):
        async with running_sim(seed=seed) as sim:
            ib = await sim.client()
            seen = _callbacks(ib)
            await sim.fault("duplicate_callbacks", percent=50)
            counts = []
            for number in range(12):
                seen.clear()
                ib.placeOrder(AAPL, LimitOrder("BUY", 1, 10 + number))
                await until_entries(sim, "working", number + 1)
                await ib.reqCurrentTimeAsync()
                counts.append(seen.count("openOrder") == 2)
            struck.append(counts)
    assert struck[0] == struck[1] != struck[2]
    assert 0 < sum(struck[0]) < 12
