"""Each field of a contract and each order type, from the client to the broker's book: at once, and over a failover."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from engine.reference import cluster_tag
from ibsim.derivatives import derivatives
from tests.integration.api_calls import ORDERS, body, call, one
from tests.integration.pair_fixture import RunningPair, ask, running_pair, until
from tests.integration.test_operate import name_of

pytestmark = pytest.mark.timeout(120)
ACCOUNT = "DU1234567"
LISTED = {(i.sec_type, i.symbol, i.right): i for i in reversed(derivatives(datetime.now(UTC).date()))}
CALL, PUT = LISTED[("OPT", "SPY", "C")], LISTED[("OPT", "SPY", "P")]
ES, EUR = LISTED[("FUT", "ES", "")], LISTED[("CASH", "EUR", "")]
LATER = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
LATER_AT_IB = f"{LATER:%Y%m%d-%H:%M:%S}"
GROUP = f"pa.{cluster_tag('local')}.g1"
STOCK = {"con_id": 8314}
STOP = {"limit_price": None, "stop_price": "900.25"}
OPTION = {"sec_type": "OPT", "symbol": "SPY", "strike": str(CALL.strike)}

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # what the client says beside a resting limit order in IBM, and what the broker's book has to say
    "LMT": ({}, STOCK | {"limit_price": "1", "aux_price": None}),
    "MKT": ({"order_type": "MKT", "limit_price": None}, STOCK | {"limit_price": None}),
    "STP": ({"order_type": "STP", **STOP}, STOCK | {"aux_price": "900.25", "limit_price": None}),
    "STP LMT": ({"order_type": "STP LMT", "stop_price": "900.25"}, STOCK | {"aux_price": "900.25", "limit_price": "1"}),
    "MOC": ({"order_type": "MOC", "limit_price": None}, STOCK),
    "LOC": ({"order_type": "LOC", "limit_price": "1.05"}, STOCK | {"limit_price": "1.05"}),
    "SELL": ({"side": "SELL", "limit_price": "901.5"}, STOCK | {"limit_price": "901.5"}),
    "fraction": ({"quantity": "0.125"}, STOCK),
    "GTC": ({"tif": "GTC"}, STOCK),
    "IOC": ({"tif": "IOC"}, STOCK),
    "FOK": ({"tif": "FOK"}, STOCK),
    "GTD": ({"tif": "GTD", "good_till": LATER.isoformat()}, STOCK | {"goodTillDate": LATER_AT_IB}),
    "valid_until": ({"tif": "GTC", "valid_until": LATER.isoformat()}, STOCK | {"tif": "GTD", "goodTillDate": LATER_AT_IB}),
    "outside_rth": ({"outside_rth": True}, STOCK | {"outsideRth": "1"}),
    "oca_group": ({"oca_group": "g1"}, STOCK | {"ocaGroup": GROUP, "ocaType": "1"}),
    "account": ({"account": ACCOUNT}, STOCK),
    "con_id": ({"symbol": None, "con_id": 272093}, {"con_id": 272093}),
    "primary_exchange": ({"primary_exchange": "NYSE"}, STOCK),
    "exchange": ({"symbol": "AAPL", "exchange": "ISLAND"}, {"con_id": 265598, "exchange": "ISLAND"}),
    "currency": ({"exchange": "IBIS", "currency": "EUR"}, {"con_id": 39832875, "exchange": "IBIS"}),
    "last_trade_date": (
        {"sec_type": "FUT", "symbol": "ES", "exchange": "CME", "last_trade_date": ES.expiry}, {"con_id": ES.con_id},
    ),
    "local_symbol": (
        {"sec_type": "FUT", "symbol": "ES", "exchange": "CME", "local_symbol": ES.local_symbol}, {"con_id": ES.con_id},
    ),
    "right C, strike": ({**OPTION, "last_trade_date": CALL.expiry, "right": "C"}, {"con_id": CALL.con_id}),
    "right P, multiplier, trading_class": (
        {**OPTION, "last_trade_date": PUT.expiry, "right": "P", "multiplier": "100", "trading_class": "SPY",
         "strike": str(PUT.strike)}, {"con_id": PUT.con_id},
    ),
    "CASH": ({"sec_type": "CASH", "symbol": "EUR", "exchange": "IDEALPRO"}, {"con_id": EUR.con_id}),
}  # fmt: skip


@pytest.fixture(scope="module")
def pair() -> Iterator[RunningPair]:
    ages = {f"MAX_INTENT_AGE_{name}": "90" for name in ("MKT", "LMT", "STP", "OTHER")}
    with running_pair(ORDER_RATE="0", ORDER_RATE_PER_SYMBOL="0", **ages) as made:
        yield made


def at_broker(pair: RunningPair, oid: str) -> dict[str, Any] | None:
    """The order as the stand-in took it, with the fields of its placeOrder; None as long as it did not."""
    found = [e for e in pair.journal(oid) if e["kind"] == "order"]
    assert len(found) <= 1
    return {**found[0]["fields"], **found[0]} if found else None


def differs(asked: Mapping[str, Any], expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """What the broker has otherwise than the client said it."""
    wanted = {
        "side": asked["side"],
        "order_type": asked["order_type"],
        "tif": asked.get("tif", "DAY"),
        "account": ACCOUNT,
    } | expected
    wrong = [
        f"{name}: {found.get(name)!r}, not {value!r}" for name, value in wanted.items() if found.get(name) != value
    ]
    if Decimal(found["quantity"]) != Decimal(asked["quantity"]):
        wrong.append(f"quantity: {found['quantity']}")
    unasked = {"goodTillDate", "outsideRth", "ocaGroup", "ocaType", "exchange", "parentId"} & set(found) - set(expected)
    return wrong + [f"{name}: {found[name]!r}, and nobody asked for it" for name in sorted(unasked)]


def placed(leader: str) -> dict[str, tuple[dict[str, Any], str]]:
    """Every case, accepted; its body and its order's id, by the case's name."""
    made = {}
    for name, (fields, _) in CASES.items():
        asked = body(**fields)
        answer = call(leader, "POST", ORDERS, asked)
        assert answer.status == 201, (name, answer.content)
        made[name] = asked, answer.json["id"]
    return made


def judge(pair: RunningPair, made: Mapping[str, tuple[dict[str, Any], str]]) -> None:
    harmed = {}
    for name, (asked, oid) in made.items():
        found = until(lambda oid=oid: at_broker(pair, oid), f"{name} at the broker")
        if wrong := differs(asked, CASES[name][1], found):
            harmed[name] = wrong
    assert harmed == {}


def test_every_field_and_order_type_reaches_the_broker_unharmed(pair: RunningPair) -> None:
    judge(pair, placed(pair.leader))


@pytest.mark.guarantee(3)
def test_every_field_and_order_type_that_waits_over_a_failover_reaches_the_broker_unharmed(pair: RunningPair) -> None:
    leader = pair.leader
    pair.control("POST", "/faults/link_down", {})
    until(lambda: not ask(leader, "GET", "/health").json["gate"]["open"], "the gate is shut")
    made = placed(leader)
    pair.run(pair.pair.kill(name_of(pair, leader), signal.SIGKILL))
    new = until(lambda: (found := pair.with_status("/leader")) not in (None, leader) and found, "the other one leads")
    assert {one(new, oid)["state"] for _, oid in made.values()} == {"QUEUED"}
    pair.control("DELETE", "/faults/link_down")
    judge(pair, made)
    ids = [(at_broker(pair, oid) or {})["order_id"] for _, oid in made.values()]
    assert ids == sorted(ids), "in the order of their acceptance"
