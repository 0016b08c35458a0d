"""The lists that a client asks for: what each shows, and to whom, through ib_async on the wire."""

from datetime import UTC, datetime, timedelta

import pytest
from ib_async import IB, ExecutionFilter, LimitOrder, MarketOrder, RequestError, Stock

from tests.integration.sim_fixture import Sim, errors_of, running_sim, until, until_entries

AAPL = Stock("AAPL", "SMART", "USD")
MSFT = Stock("MSFT", "SMART", "USD")


async def _traded(sim: Sim) -> IB:
    """Client 1 has bought 1 AAPL in DU1, client 2 has sold 2 MSFT in DU2; returns client 3."""
    for client_id, contract, side, account in ((1, AAPL, "BUY", "DU1"), (2, MSFT, "SELL", "DU2")):
        ib = await sim.client(client_id)
        ib.placeOrder(contract, MarketOrder(side, client_id, account=account))
    await until_entries(sim, "execution", 2)
    return await sim.client(3)


def _utc(seconds: int) -> str:
    return f"{datetime.now(UTC) + timedelta(seconds=seconds):%Y%m%d-%H:%M:%S}"


@pytest.mark.parametrize(
    ("chosen", "shares"),
    [
        ({}, {1, 2}),
        ({"clientId": 1}, {1}),
        ({"acctCode": "DU2"}, {2}),
        ({"symbol": "AAPL"}, {1}),
        ({"secType": "FUT"}, set()),
        ({"exchange": "NASDAQ"}, {1, 2}),
        ({"exchange": "CME"}, set()),
        ({"side": "SELL"}, {2}),
        ({"side": "BUY", "symbol": "MSFT"}, set()),
        ({"time": _utc(-3600)}, {1, 2}),
        ({"time": _utc(+3600)}, set()),
        ({"time": "20200101 00:00:00 US/Eastern"}, {1, 2}),
    ],
)
async def test_executions_pass_the_filter_of_their_request(chosen: dict[str, object], shares: set[int]):
    async with running_sim(accounts=("DU1", "DU2")) as sim:
        ib = await _traded(sim)
        found = await ib.reqExecutionsAsync(ExecutionFilter(**chosen))
        assert {fill.execution.shares for fill in found} == shares


async def test_a_filter_with_an_unreadable_time_is_refused():
    async with running_sim(accounts=("DU1", "DU2")) as sim:
        ib = await _traded(sim)
        with pytest.raises(RequestError) as refused:
            await ib.reqExecutionsAsync(ExecutionFilter(time="yesterday"))
        assert refused.value.code == 320


async def test_completed_orders_are_every_clients_and_those_by_hand_only_when_asked_for():
    async with running_sim(accounts=("DU1", "DU2")) as sim:
        ib = await _traded(sim)
        await sim.call("POST", "/orders", {"symbol": "AAPL", "side": "BUY", "quantity": "3"}, status=201)
        for api_only, filled in ((True, {1, 2}), (False, {1, 2, 3})):
            done = await ib.reqCompletedOrdersAsync(api_only)
            assert {trade.order.filledQuantity for trade in done} == filled


async def test_open_orders_are_ones_own_or_all_and_each_shows_whose_it_is():
    async with running_sim() as sim:
        for client_id in (1, 2):
            ib = await sim.client(client_id)
            ib.placeOrder(AAPL, LimitOrder("BUY", client_id, 100))
        await until_entries(sim, "working", 2)
        third = await sim.client(3)
        assert await third.reqOpenOrdersAsync() == []
        assert {trade.order.clientId for trade in await third.reqAllOpenOrdersAsync()} == {1, 2}


async def test_the_next_valid_id_is_told_on_request():
    async with running_sim() as sim:
        ib = await sim.client()
        trade = ib.placeOrder(AAPL, LimitOrder("BUY", 1, 100))
        await until(lambda: trade.order.permId, "a permId")
        told: list[int] = []
        ib.wrapper.nextValidId = told.append
        ib.client.reqIds(1)
        await until(lambda: told == [trade.order.orderId + 1], "the next valid id")


@pytest.mark.parametrize("order_id", [0, -5, 1 << 31, 1 << 40])
async def test_an_order_id_that_is_no_positive_32_bit_number_is_refused(order_id: int):
    async with running_sim() as sim:
        ib = await sim.client()
        errors = errors_of(ib)
        ib.client.placeOrder(order_id, AAPL, LimitOrder("BUY", 1, 100))
        await until(lambda: (order_id, 321) in errors, "error 321")
        assert not await sim.journal("order")
