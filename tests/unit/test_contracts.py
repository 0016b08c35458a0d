"""What a request means is asked of IB once; what nobody can say is no verdict."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from engine.book import Book
from engine.broker import ContractDetail, ContractQuery, RequestFailed
from engine.contracts import Contracts, Meant, query_of
from engine.errors import Problem
from engine.request import OrderRequest, parse_order
from tests.unit.book_factory import Ledger, ScriptedBroker

APPLE = ContractDetail(265598, "AAPL", "AAPL", "STK", "SMART", "NASDAQ", "USD", "", Decimal("0.01"))
MEXICO = ContractDetail(38708077, "AAPL", "AAPL", "STK", "MEXI", "MEXI", "MXN", "", Decimal("0.01"))


class IB(ScriptedBroker):
    """Counts what it is asked."""

    def __init__(self, *found: ContractDetail) -> None:
        super().__init__()
        self.contracts, self.queries = list(found), list[ContractQuery]()

    async def contract_details(self, query: ContractQuery, deadline: float) -> list[ContractDetail]:
        self.queries.append(query)
        return await super().contract_details(query, deadline)


def order(**fields: Any) -> OrderRequest:
    body = {
        "client_order_id": "k",
        "symbol": "AAPL",
        "side": "BUY",
        "quantity": "1",
        "order_type": "LMT",
        "limit_price": "1.00",
    }
    return parse_order({name: value for name, value in (body | fields).items() if value is not None})


async def refusal(contracts: Contracts, request: OrderRequest, *, session: bool = True) -> Problem:
    with pytest.raises(Problem) as refused:
        await contracts.meant(request, session=session)
    return refused.value


async def test_contract_is_asked_for_once_and_then_known() -> None:
    ib = IB(APPLE)
    contracts = Contracts(ib, Book())
    for _ in range(3):
        assert await contracts.meant(order(), session=True) == Meant("AAPL", 265598, Decimal("0.01"))
    assert ib.queries == [ContractQuery("AAPL")]
    assert await contracts.meant(order(), session=False) == Meant("AAPL", 265598, Decimal("0.01"))


async def test_con_id_alone_has_the_symbol_that_ib_says() -> None:
    meant = await Contracts(IB(APPLE), Book()).meant(order(symbol=None, con_id=265598), session=True)
    assert (meant.symbol, meant.con_id) == ("AAPL", 265598)


@pytest.mark.parametrize(("fields", "field"), [({}, "symbol"), ({"symbol": None, "con_id": 7}, "con_id")])
async def test_contract_that_ib_does_not_know_is_422(fields: dict[str, Any], field: str) -> None:
    contracts = Contracts(IB(), Book())
    refused = await refusal(contracts, order(**fields))
    assert (refused.status, [e.field for e in refused.errors]) == (422, [field])
    assert contracts.remembered(order(**fields)) is None  # it may be listed tomorrow


async def test_ambiguous_contract_is_422_and_names_what_fits() -> None:
    refused = await refusal(Contracts(IB(APPLE, MEXICO), Book()), order())
    assert refused.status == 422
    assert "2 contracts fit" in refused.errors[0].message
    assert "con_id 265598 AAPL NASDAQ USD; con_id 38708077 AAPL MEXI MXN" in refused.errors[0].message


@pytest.mark.parametrize("price", ["1.005", "0.001"])
async def test_price_between_two_steps_is_422(price: str) -> None:
    refused = await refusal(Contracts(IB(APPLE), Book()), order(limit_price=price))
    assert (refused.status, refused.errors[0].field) == (422, "limit_price")
    assert "0.01" in refused.errors[0].message


@pytest.mark.guarantee(6)
@pytest.mark.parametrize("session", [True, False])
async def test_contract_that_nobody_can_look_up_now_is_accepted_as_it_is(session: bool) -> None:
    ib = IB()
    ib.contracts = None  # asked, and no answer
    contracts = Contracts(ib, Book())
    assert await contracts.meant(order(limit_price="1.005"), session=session) == Meant("AAPL")
    assert len(ib.queries) == session
    ib.contracts = [APPLE]
    assert (await contracts.meant(order(), session=True)).con_id == 265598  # nothing was remembered of that


async def test_con_id_that_nobody_can_look_up_now_is_503() -> None:
    refused = await refusal(Contracts(IB(APPLE), Book()), order(symbol=None, con_id=265598), session=False)
    assert (refused.status, refused.kind) == (503, "contract-unknown")


async def test_a_failed_look_up_is_no_refusal() -> None:
    class Away(IB):
        async def contract_details(self, query: ContractQuery, deadline: float) -> list[ContractDetail]:
            raise RequestFailed("no End")

    assert await Contracts(Away(), Book()).meant(order(), session=True) == Meant("AAPL")


async def test_contract_that_the_ledger_has_traded_is_known_at_once_and_asked_for_behind() -> None:
    ledger, ib = Ledger(), IB(APPLE)
    contracts = Contracts(ib, ledger.book)
    ledger.session(1)
    ledger.working(body=order(client_order_id="k1").canonical())
    assert await contracts.meant(order(limit_price="1.005"), session=True) == Meant("AAPL", 265598)  # no steps yet
    await asyncio.sleep(0)
    assert ib.queries == [ContractQuery("AAPL")]
    refused = await refusal(contracts, order(limit_price="1.005"))
    assert refused.errors[0].field == "limit_price"
    assert len(ib.queries) == 1


def test_query_says_what_the_request_says() -> None:
    fields = {"sec_type": "OPT", "strike": "200", "right": "C", "last_trade_date": "20261218", "multiplier": "100"}
    wanted = ContractQuery("AAPL", "OPT", strike=Decimal(200), right="C", last_trade_date="20261218", multiplier="100")
    assert query_of(order(**fields)) == wanted


async def test_all_who_wait_for_the_same_contract_ask_once() -> None:
    ib = IB(APPLE)
    contracts = Contracts(ib, Book())
    meant = await asyncio.gather(*(contracts.meant(order(), session=True) for _ in range(40)))
    assert {one.con_id for one in meant} == {265598}
    assert len(ib.queries) == 1
