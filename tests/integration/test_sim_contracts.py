"""Contracts, accounts and quotes, through ib_async on the wire."""

import asyncio

import pytest
from ib_async import IB, Contract, Forex, Future, LimitOrder, MarketOrder, Option, RequestError, Stock

from tests.integration.sim_fixture import Sim, errors_of, running_sim, until

AAPL = Stock("AAPL", "SMART", "USD")


async def _listed(sim: Sim, sec_type: str, symbol: str = "") -> list[dict[str, str]]:
    contracts = (await sim.call("GET", "/contracts"))["contracts"]
    return [one for one in contracts if one["secType"] == sec_type and symbol in ("", one["symbol"])]


async def test_an_ambiguous_contract_has_several_details_and_no_order():
    async with running_sim() as sim:
        ib = await sim.client()
        errors = errors_of(ib)
        vague = Contract(symbol="AAPL", secType="STK", exchange="SMART")
        assert {d.contract.currency for d in await ib.reqContractDetailsAsync(vague)} == {"USD", "MXN"}
        assert await ib.qualifyContractsAsync(vague) in ([], [None])
        trade = ib.placeOrder(vague, MarketOrder("BUY", 1))
        await until(lambda: (trade.order.orderId, 200) in errors, "error 200")
        assert await ib.qualifyContractsAsync(AAPL) == [AAPL]
        assert AAPL.conId == 265598


async def test_a_contract_that_does_not_exist_is_200():
    async with running_sim() as sim:
        ib = await sim.client()
        for wrong in (Stock("NOPE", "SMART", "USD"), Stock("AAPL", "LSE", "USD"), Contract(conId=1), Forex("EURXXX")):
            with pytest.raises(RequestError) as caught:
                await ib.reqContractDetailsAsync(wrong)
            assert caught.value.code == 200


async def test_a_future_trades_with_its_multiplier_and_tick():
    async with running_sim() as sim:
        ib = await sim.client()
        errors = errors_of(ib)
        vague = await ib.reqContractDetailsAsync(Future("ES", exchange="CME"))
        assert len(vague) == 3
        near = (await _listed(sim, "FUT", "ES"))[0]
        future = Future("ES", near["lastTradeDateOrContractMonth"][:6], "CME")
        await ib.qualifyContractsAsync(future)
        assert (future.localSymbol, future.multiplier) == (near["localSymbol"], "50")
        bad = ib.placeOrder(future, LimitOrder("BUY", 1, 5000.10))
        await until(lambda: (bad.order.orderId, 110) in errors, "error 110")
        trade = ib.placeOrder(future, MarketOrder("BUY", 2))
        await until(lambda: trade.fills and trade.fills[0].commissionReport.commission, "a fill")
        assert trade.fills[0].commissionReport.commission == 4.5
        (held,) = await ib.reqPositionsAsync()
        assert (held.contract.conId, held.position) == (future.conId, 2)
        assert held.avgCost == pytest.approx(trade.fills[0].execution.price * 50 + 2.25)
        await sim.call("POST", "/prices", {near["key"]: "5300"})
        closing = ib.placeOrder(future, MarketOrder("SELL", 2))
        await until(lambda: closing.fills and closing.fills[0].commissionReport.realizedPNL, "a closing fill")
        assert closing.fills[0].commissionReport.realizedPNL == pytest.approx(2 * (5300 - 5200) * 50 - 9)


async def test_options_and_currencies_are_found_and_traded():
    async with running_sim() as sim:
        ib = await sim.client()
        listed = (await _listed(sim, "OPT", "AAPL"))[0]
        option = Option(
            "AAPL", listed["lastTradeDateOrContractMonth"], float(listed["strike"]), listed["right"], "SMART"
        )
        await ib.qualifyContractsAsync(option)
        assert option.conId == int(listed["conId"])
        pair = Forex("EURUSD")
        await ib.qualifyContractsAsync(pair)
        assert (pair.localSymbol, pair.conId) == ("EUR.USD", 12087792)
        for contract, quantity in ((option, 3), (pair, 20_000)):
            trade = ib.placeOrder(contract, MarketOrder("BUY", quantity))
            await until(lambda trade=trade: trade.fills, "a fill")
        held = {p.contract.secType: p.position for p in await ib.reqPositionsAsync()}
        assert held == {"OPT": 3, "CASH": 20_000}
        orders = (await sim.call("GET", "/orders"))["orders"]
        assert [o["symbol"] for o in orders] == ["AAPL", "EUR"]


async def test_matching_symbols():
    async with running_sim() as sim:
        ib = await sim.client()
        found = await ib.reqMatchingSymbolsAsync("microsoft")
        assert [(d.contract.symbol, d.derivativeSecTypes) for d in found] == [("MSFT", ["OPT"])]


async def test_market_rule():
    async with running_sim() as sim:
        ib = await sim.client()
        assert (await ib.reqMarketRuleAsync(26))[0].increment == 0.01


async def test_a_snapshot_quotes_once_and_a_stream_until_cancelled():
    async with running_sim() as sim:
        ib = await sim.client()
        (snap,) = await asyncio.wait_for(ib.reqTickersAsync(AAPL), 3)
        assert (snap.bid, snap.ask, snap.last) == (189.99, 190.01, 190)
        ticker = ib.reqMktData(AAPL)
        await until(lambda: ticker.last == 190, "a quote")
        await sim.call("POST", "/prices", {"AAPL": "191.50", "MSFT": "400"})
        await until(lambda: (ticker.bid, ticker.ask, ticker.last) == (191.49, 191.51, 191.5), "the quote moves")
        ib.cancelMktData(AAPL)
        await ib.reqCurrentTimeAsync()
        await sim.call("POST", "/prices", {"AAPL": "192"})
        await ib.reqCurrentTimeAsync()
        assert ticker.last == 191.5


async def test_delayed_quotes_and_quotes_of_nothing():
    async with running_sim() as sim:
        ib = await sim.client()
        errors = errors_of(ib)
        ib.reqMarketDataType(3)
        ticker = ib.reqMktData(AAPL)
        await until(lambda: ticker.last == 190, "a delayed quote")
        assert ticker.marketDataType == 3
        ib.reqMktData(Stock("NOPE", "SMART", "USD", conId=1))
        await until(lambda: any(code == 200 for _, code in errors), "error 200")


async def test_account_summary_and_updates_follow_what_is_held():
    async with running_sim() as sim:
        ib = await sim.client()
        trade = ib.placeOrder(AAPL, MarketOrder("BUY", 100))
        await until(lambda: trade.fills, "a fill")
        summary = {value.tag: value.value for value in await ib.accountSummaryAsync()}
        assert (summary["TotalCashValue"], summary["NetLiquidation"]) == ("980999", "999999")
        assert summary["GrossPositionValue"] == "19000"
        await asyncio.wait_for(ib.reqAccountUpdatesAsync("DU1234567"), 3)
        assert [(item.position, item.marketPrice) for item in ib.portfolio()] == [(100, 190)]
        more = ib.placeOrder(AAPL, MarketOrder("BUY", 100))
        await until(lambda: more.fills and ib.portfolio()[0].position == 200, "the portfolio follows")


async def test_several_accounts_are_kept_apart_and_an_order_must_name_one():
    async with running_sim(accounts=("DU1", "DU2")) as sim:
        ib = await sim.client()
        errors = errors_of(ib)
        assert ib.managedAccounts() == ["DU1", "DU2"]
        none = ib.placeOrder(AAPL, MarketOrder("BUY", 1))
        await until(lambda: (none.order.orderId, 435) in errors, "error 435")
        wrong = ib.placeOrder(AAPL, MarketOrder("BUY", 1, account="DU3"))
        await until(lambda: (wrong.order.orderId, 321) in errors, "error 321")
        for account, quantity in (("DU1", 1), ("DU2", 2)):
            trade = ib.placeOrder(AAPL, MarketOrder("BUY", quantity, account=account))
            await until(lambda trade=trade: trade.fills, "a fill")
        assert {p.account: p.position for p in await ib.reqPositionsAsync()} == {"DU1": 1, "DU2": 2}
        await asyncio.wait_for(ib.reqAccountUpdatesMultiAsync("DU2"), 3)
        assert await _multi(ib, "DU2") == {2.0}


async def _multi(ib: IB, account: str) -> set[float]:
    seen: list[float] = []
    ended: list[int] = []
    ib.wrapper.positionMulti = lambda *args: seen.append(args[4])
    ib.wrapper.positionMultiEnd = ended.append
    ib.client.reqPositionsMulti(1 << 30, account, "")
    await until(lambda: ended, "the end of the positions")
    return set(seen)


async def test_a_third_account_summary_is_refused():
    async with running_sim() as sim:
        ib = await sim.client()
        errors = errors_of(ib)
        for request in (901, 902, 903):
            ib.client.reqAccountSummary(request, "All", "NetLiquidation")
        await until(lambda: (903, 322) in errors, "error 322")
        ib.client.cancelAccountSummary(901)
        ib.client.reqAccountSummary(904, "All", "NetLiquidation")
        await ib.reqCurrentTimeAsync()
        assert (904, 322) not in errors
