"""Batches, every kind of contract and order type, and what is said about them to IB: over HTTP, judged at the stand-in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from ibsim.derivatives import derivatives
from tests.integration.api_calls import ORDERS, body, call, in_state, one, quiet, seq
from tests.integration.pair_fixture import RunningPair, running_pair, until

LISTED = {(i.sec_type, i.symbol, i.right): i for i in reversed(derivatives(datetime.now(UTC).date()))}
OPTION, FUTURE, PAIR = LISTED[("OPT", "SPY", "C")], LISTED[("FUT", "ES", "")], LISTED[("CASH", "EUR", "")]


@pytest.fixture(scope="module")
def pair() -> Iterator[RunningPair]:
    with running_pair(ORDER_RATE="0", ORDER_RATE_PER_SYMBOL="0") as made:
        yield made


@pytest.fixture(scope="module")
def leader(pair: RunningPair) -> str:
    return pair.leader


def at_broker(pair: RunningPair, oid: str) -> dict[str, Any]:
    """The order as the stand-in has it."""
    [found] = [o for o in pair.control("GET", "/orders")["orders"] if o["order_ref"].endswith(oid)]
    return dict(found)


def placed(leader: str, **fields: object) -> dict[str, Any]:
    """A resting order, accepted and shown."""
    answer = call(leader, "POST", ORDERS, body(**fields))
    assert answer.status == 201, answer.content
    return in_state(leader, answer.json["id"], "WORKING")


CONTRACTS = {
    "stock by its conId": ({"symbol": None, "con_id": 272093}, "MSFT", 272093),
    "stock on its exchange": ({"symbol": "IBM", "primary_exchange": "NYSE"}, "IBM", 8314),
    "stock elsewhere": ({"symbol": "IBM", "exchange": "IBIS", "currency": "EUR"}, "IBM", 39832875),
    "future": (
        {"sec_type": "FUT", "symbol": "ES", "exchange": "CME", "last_trade_date": FUTURE.expiry[:6]}, "ES", FUTURE.con_id,
    ),
    "future by its local symbol": (
        {"sec_type": "FUT", "symbol": "ES", "exchange": "CME", "local_symbol": FUTURE.local_symbol}, "ES", FUTURE.con_id,
    ),
    "option": (
        {"sec_type": "OPT", "symbol": "SPY", "last_trade_date": OPTION.expiry, "strike": str(OPTION.strike), "right": "C",
         "multiplier": "100"}, "SPY", OPTION.con_id,
    ),
    "currency pair": ({"sec_type": "CASH", "symbol": "EUR", "exchange": "IDEALPRO"}, "EUR", PAIR.con_id),
}  # fmt: skip


@pytest.mark.parametrize(("fields", "symbol", "con_id"), CONTRACTS.values(), ids=CONTRACTS)
def test_every_kind_of_contract_goes_round_unharmed(
    pair: RunningPair, leader: str, fields: dict[str, Any], symbol: str, con_id: int
) -> None:
    order = placed(leader, **fields)
    there = at_broker(pair, order["id"])
    assert (there["con_id"], there["symbol"], Decimal(there["quantity"]), there["side"]) == (con_id, symbol, 10, "BUY")
    assert (order["con_id"], order["symbol"]) == (con_id, symbol)


def test_contract_is_asked_for_once(pair: RunningPair, leader: str) -> None:
    def asked() -> int:
        entries = pair.control("GET", "/journal?after=0")["entries"]
        return sum(1 for e in entries if e.get("request") == "reqContractDetails")

    placed(leader, symbol="GOOG")
    before = asked()
    placed(leader, symbol="GOOG")
    assert asked() == before


@pytest.mark.parametrize(
    "fields",
    [
        {"order_type": "MOC", "limit_price": None}, {"order_type": "LOC"}, {"tif": "GTC"},
        {"order_type": "STP", "limit_price": None, "stop_price": "900.00"}, {"order_type": "STP LMT", "stop_price": "900.00"},
    ],
)  # fmt: skip
def test_every_order_type_rests(pair: RunningPair, leader: str, fields: dict[str, Any]) -> None:
    order = placed(leader, **fields)
    there = at_broker(pair, order["id"])
    assert there["order_type"] == order["order_type"]


def test_good_till_goes_to_ib_and_ends_the_order_there(pair: RunningPair, leader: str) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=3)
    order = placed(leader, tif="GTD", good_till=soon.isoformat())
    assert at_broker(pair, order["id"])["tif"] == "GTD"
    assert in_state(leader, order["id"], "CANCELLED")["reason"] == "cancelled at the broker"


@pytest.mark.rule(6)
def test_valid_until_goes_to_ib_as_its_good_till_date(pair: RunningPair, leader: str) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=3)
    order = placed(leader, valid_until=soon.isoformat())
    assert (order["tif"], at_broker(pair, order["id"])["tif"]) == ("DAY", "GTD")
    in_state(leader, order["id"], "CANCELLED")


def test_one_of_a_group_that_fills_cancels_the_other(pair: RunningPair, leader: str) -> None:
    low, high = (placed(leader, symbol="TSLA", oca_group="g1", limit_price=price) for price in ("1.00", "230.00"))
    pair.control("POST", "/prices", {"TSLA": "229.00"})
    in_state(leader, high["id"], "FILLED")
    in_state(leader, low["id"], "CANCELLED")


# ---- batches


def test_batch_is_one_commit_and_its_repeat_is_the_same_orders(pair: RunningPair, leader: str) -> None:
    orders = [body(symbol=symbol) for symbol in ("IBM", "MSFT", "NVDA")]
    answer = call(leader, "POST", f"{ORDERS}/batch", {"orders": orders})
    assert answer.status == 201
    made = answer.json["orders"]
    assert [o["client_order_id"] for o in made] == [o["client_order_id"] for o in orders]
    for order in made:
        in_state(leader, order["id"], "WORKING")
    taken = [at_broker(pair, o["id"])["order_id"] for o in made]
    assert taken == sorted(taken), "the wire's order is the batch's"
    again = call(leader, "POST", f"{ORDERS}/batch", {"orders": orders})
    assert (again.status, [o["id"] for o in again.json["orders"]]) == (200, [o["id"] for o in made])
    more = call(leader, "POST", f"{ORDERS}/batch", {"orders": [orders[0], body()]})
    assert (more.status, more.json["orders"][0]["id"]) == (201, made[0]["id"])
    elsewhere = call(pair.standby, "POST", f"{ORDERS}/batch", {"orders": orders})
    assert elsewhere.status == 307


def test_one_wrong_order_of_a_batch_refuses_them_all(pair: RunningPair, leader: str) -> None:
    known = body()
    assert call(leader, "POST", ORDERS, known).status == 201
    before = quiet(leader)
    off_tick = call(leader, "POST", f"{ORDERS}/batch", {"orders": [body(), body(limit_price="1.005")]})
    assert (off_tick.status, off_tick.fields) == (422, {"orders[1].limit_price"})
    reused = call(leader, "POST", f"{ORDERS}/batch", {"orders": [body(), {**known, "quantity": "11"}]})
    assert (reused.status, reused.problem) == (409, "key-reused")
    account = call(leader, "POST", f"{ORDERS}/batch", {"orders": [body(), body(account="DU999")]})
    assert (account.status, account.fields) == (422, {"orders[1].account"})
    assert seq(leader) == before


@pytest.mark.guarantee(4)
def test_same_batch_at_the_same_time_is_one_set_of_orders(pair: RunningPair, leader: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    batch = {"orders": [body() for _ in range(5)]}
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: call(leader, "POST", f"{ORDERS}/batch", batch), range(4)))
    assert {a.status for a in answers} <= {200, 201}
    assert len({tuple(o["id"] for o in a.json["orders"]) for a in answers}) == 1
    for order in answers[0].json["orders"]:
        in_state(leader, order["id"], "WORKING")
        assert len([e for e in pair.journal(order["id"]) if e["kind"] == "order"]) == 1
    until(lambda: one(leader, answers[0].json["orders"][0]["id"])["perm_id"], "its permId")


def test_all_of_ones_own_orders_in_a_symbol_are_cancelled_and_nobody_elses(pair: RunningPair, leader: str) -> None:
    mine = [placed(leader, symbol="AMZN")["id"] for _ in range(3)]
    other = placed(leader, symbol="SPY")["id"]
    answer = call(leader, "DELETE", f"{ORDERS}?symbol=AMZN")
    assert (answer.status, {o["id"] for o in answer.json["orders"]}) == (202, set(mine))
    for oid in mine:
        in_state(leader, oid, "CANCELLED")
    assert one(leader, other)["state"] == "WORKING"
    assert call(leader, "DELETE", f"{ORDERS}?symbol=AMZN").json["orders"] == []
    unnamed = call(leader, "DELETE", ORDERS)
    assert (unnamed.status, unnamed.fields) == (422, {"symbol"})
    assert call(pair.standby, "DELETE", f"{ORDERS}?symbol=SPY").status == 307


@pytest.mark.rule(26)
@pytest.mark.guarantee(4)
def test_twin_that_the_broker_made_is_cancelled_once_and_reported(pair: RunningPair, leader: str) -> None:
    pair.control("POST", "/faults/twin", {"next": 1})
    oid = call(leader, "POST", ORDERS, body(symbol="MSFT")).json["id"]

    def twins() -> list[dict[str, Any]]:
        return [o for o in pair.control("GET", "/orders")["orders"] if o["order_ref"].endswith(oid)]

    until(lambda: sorted(o["state"] for o in twins()) == ["Cancelled", "Submitted"], "the younger one is cancelled")
    found = [b for b in call(leader, "GET", "/api/v1/breaks").json["breaks"] if b["order_id"] == oid]
    assert [b["kind"] for b in found] == ["twin"], found
    live = next(o for o in twins() if o["state"] == "Submitted")
    until(lambda: one(leader, oid)["perm_id"] == live["perm_id"], "the ledger has the one that lives")
    cancels = [e for e in pair.control("GET", "/journal?after=0")["entries"] if e["kind"] == "cancel"]
    assert len([e for e in cancels if e.get("perm_id") in {o["perm_id"] for o in twins()}]) == 1


@pytest.mark.rule(26)
@pytest.mark.rule(7)
def test_cancel_of_an_order_that_the_broker_has_twice_ends_both(pair: RunningPair, leader: str) -> None:
    pair.control("POST", "/faults/twin", {"next": 1})
    oid = call(leader, "POST", ORDERS, body(symbol="IBM")).json["id"]
    until(lambda: one(leader, oid)["state"] in ("SENDING", "WORKING"), "it is sent")
    assert call(leader, "DELETE", f"{ORDERS}/{oid}").status == 202
    in_state(leader, oid, "CANCELLED")
    twins = [o["state"] for o in pair.control("GET", "/orders")["orders"] if o["order_ref"].endswith(oid)]
    assert twins == ["Cancelled", "Cancelled"]
