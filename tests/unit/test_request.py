"""What a client may send: every wrong field is named, nothing is guessed, and one order has one form."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import Problem
from engine.request import MAX_FAMILY, conflict, parse_batch, parse_order, same_order

GOOD: dict[str, Any] = {
    "client_order_id": "s1-000001", "symbol": "AAPL", "side": "BUY", "quantity": "10", "order_type": "LMT",
    "limit_price": "190.50",
}  # fmt: skip


def refused(**change: Any) -> dict[str, str]:
    """The fields that are named when GOOD is changed like this; None leaves a field out."""
    body = {key: value for key, value in (GOOD | change).items() if value is not None}
    with pytest.raises(Problem) as caught:
        parse_order(body)
    assert caught.value.status == 422
    assert all(error.field and error.message for error in caught.value.errors)
    return {error.field: error.message for error in caught.value.errors}


def outcome(body: object) -> Problem | None:
    """The refusal, or None for an order."""
    try:
        parse_order(body)
    except Problem as problem:
        return problem
    return None


def test_good_order_is_parsed_into_decimals() -> None:
    order = parse_order(GOOD)
    assert (order.quantity, order.limit_price) == (Decimal(10), Decimal("190.50"))
    assert (order.tif, order.sec_type, order.exchange, order.currency) == ("DAY", "STK", "SMART", "USD")


def test_nulls_of_the_documented_example_are_as_good_as_left_out() -> None:
    order = parse_order(GOOD | {"stop_price": None, "account": None, "valid_until": None, "con_id": None})
    assert same_order(order.canonical(), parse_order(GOOD))


@pytest.mark.parametrize(
    "change",
    [
        {"symbol": None, "con_id": 265598},
        {"order_type": "MOC", "limit_price": None}, {"order_type": "LOC"},
        {"tif": "GTD", "good_till": "2027-01-31T15:00:00Z"},
        {"sec_type": "OPT", "strike": "200", "right": "C", "last_trade_date": "20261218"},
        {"sec_type": "OPT", "local_symbol": "AAPL  261218C00200000"},
        {"sec_type": "FUT", "last_trade_date": "202612", "exchange": "CME"},
        {"sec_type": "CASH", "symbol": "EUR", "exchange": "IDEALPRO"},
        {"oca_group": "g1", "primary_exchange": "NASDAQ"},
    ],
)  # fmt: skip
def test_every_kind_of_order_and_contract_can_be_said(change: dict[str, Any]) -> None:
    body = {key: value for key, value in (GOOD | change).items() if value is not None}
    assert parse_order(body).canonical().keys() == body.keys()


@pytest.mark.parametrize("field", ["client_order_id", "symbol", "side", "quantity", "order_type"])
def test_missing_field_is_named(field: str) -> None:
    assert field in refused(**{field: None})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("client_order_id", ""), ("client_order_id", "a" * 65), ("client_order_id", "a b"), ("client_order_id", "ä"),
        ("client_order_id", "a\n"), ("client_order_id", 7), ("symbol", ""), ("symbol", "aapl"), ("symbol", "A" * 33),
        ("symbol", "AAPL\n"), ("side", "buy"), ("side", "HOLD"), ("quantity", "0"), ("quantity", "-1"), ("quantity", "1e30"),
        ("quantity", "NaN"), ("quantity", "Infinity"), ("quantity", ""), ("quantity", "ten"), ("quantity", 10.5),
        ("quantity", True), ("quantity", "0.000000001"), ("quantity", "1" * 40), ("quantity", ["10"]),
        ("limit_price", "0"), ("limit_price", "-5"), ("limit_price", "sNaN"), ("limit_price", "1000000001"),
        ("order_type", "TRAIL"), ("tif", "FOREVER"), ("sec_type", "BOND"), ("currency", "usd"), ("currency", "DOLLAR"),
        ("account", ""), ("account", "a" * 65), ("account", "DU\x00"), ("valid_until", "tomorrow"), ("outside_rth", "maybe"),
    ],
)  # fmt: skip
def test_impossible_value_is_refused_and_its_field_is_named(field: str, value: object) -> None:
    assert field in refused(**{field: value})


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"limit_price": None}, "limit_price"),
        ({"order_type": "MKT"}, "limit_price"),
        ({"order_type": "STP", "limit_price": None}, "stop_price"),
        ({"order_type": "STP LMT"}, "stop_price"),
        ({"stop_price": "1"}, "stop_price"),
        ({"order_type": "MOC", "limit_price": None, "tif": "GTC"}, "tif"),
        ({"order_type": "LOC", "tif": "IOC"}, "tif"),
        ({"tif": "GTD"}, "good_till"),
        ({"good_till": "2027-01-31T15:00:00Z"}, "good_till"),
        ({"tif": "GTD", "good_till": "2027-01-31T15:00:00"}, "good_till"),
        ({"sec_type": "OPT"}, "strike"),
        ({"sec_type": "OPT", "strike": "200"}, "right"),
        ({"sec_type": "OPT", "strike": "200", "right": "C"}, "last_trade_date"),
        ({"sec_type": "FUT", "exchange": "CME"}, "last_trade_date"),
        ({"sec_type": "FUT", "last_trade_date": "202612"}, "exchange"),
        ({"sec_type": "CASH"}, "exchange"),
        ({"strike": "200"}, "strike"),
        ({"last_trade_date": "202612"}, "last_trade_date"),
        ({"symbol": None}, "symbol"),
        ({"valid_until": "2026-01-31T15:00:00"}, "valid_until"),
    ],
)
def test_fields_that_do_not_go_together_are_named(change: dict[str, Any], field: str) -> None:
    assert field in refused(**change)


def test_several_wrong_fields_are_named_at_once() -> None:
    assert {"side", "quantity", "tif"} <= refused(side="x", quantity="0", tif="x").keys()


def test_unknown_field_is_an_error_and_not_ignored() -> None:
    assert "unknown field" in refused(limitprice="1")["limitprice"]


def test_order_is_not_its_own_parent() -> None:
    key = GOOD["client_order_id"]
    assert "its own parent" in refused(parent_client_order_id=key)["parent_client_order_id"]


def test_parent_stands_before_its_children_in_a_batch_and_a_family_has_its_bound() -> None:
    def wrongs(*orders: tuple[str, str | None]) -> set[str]:
        batch = [GOOD | {"client_order_id": key, "parent_client_order_id": parent} for key, parent in orders]
        try:
            parse_batch({"orders": batch})
        except Problem as problem:
            return {e.field for e in problem.errors}
        return set()

    assert wrongs(("p", None), ("c1", "p"), ("c2", "p")) == set()
    assert wrongs(("c1", "elsewhere"), ("c2", "c1")) == set()
    assert wrongs(("c1", "p"), ("p", None)) == {"orders[0].parent_client_order_id"}
    chain = [("o0", None), *((f"o{i}", f"o{i - 1}") for i in range(1, MAX_FAMILY))]
    assert wrongs(*chain) == set()
    assert wrongs(*chain, ("more", "o0")) == {f"orders[{MAX_FAMILY}].parent_client_order_id"}


@pytest.mark.parametrize("data", [None, [], "order", 1, [GOOD]])
def test_what_is_no_object_is_refused(data: object) -> None:
    with pytest.raises(Problem) as caught:
        parse_order(data)
    assert caught.value.status == 422


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*GOOD, "x"]), inner)))  # fmt: skip
def test_nothing_but_a_problem_comes_out_of_nonsense(data: object) -> None:
    for body in (data, GOOD | data if isinstance(data, dict) else GOOD):
        problem = outcome(body)
        assert problem is None or (problem.status == 422 and problem.errors)


# ---- one order, one form


@pytest.mark.rule(37)
@pytest.mark.parametrize("quantity", ["10", "10.0", "10.00", "1e1", "010", 10])
def test_same_quantity_in_another_spelling_is_the_same_order(quantity: object) -> None:
    assert same_order(parse_order(GOOD).canonical(), parse_order(GOOD | {"quantity": quantity}))


@pytest.mark.rule(37)
@pytest.mark.parametrize(
    "change",
    [{"quantity": "11"}, {"side": "SELL"}, {"symbol": "MSFT"}, {"limit_price": "190.51"}, {"tif": "GTC"},
     {"valid_until": "2026-01-31T15:00:00Z"}, {"outside_rth": True}],
)  # fmt: skip
def test_another_field_is_another_order(change: dict[str, Any]) -> None:
    assert not same_order(parse_order(GOOD).canonical(), parse_order(GOOD | change))


@pytest.mark.rule(37)
def test_same_moment_in_another_zone_is_the_same_order() -> None:
    a = parse_order(GOOD | {"valid_until": "2026-01-31T15:00:00Z"})
    assert same_order(a.canonical(), parse_order(GOOD | {"valid_until": "2026-01-31T16:00:00+01:00"}))


@pytest.mark.rule(37)
@given(st.decimals("0.00000001", "1000000000", allow_nan=False, places=8))
def test_canonical_form_is_read_back_as_itself(quantity: Decimal) -> None:
    order = parse_order(GOOD | {"quantity": str(quantity)})
    again = parse_order(order.canonical())
    assert again.canonical() == order.canonical()
    assert again.quantity == quantity


@pytest.mark.rule(37)
def test_canonical_form_says_only_what_the_client_said() -> None:
    assert set(parse_order(GOOD).canonical()) == set(GOOD)


def test_conflict_names_the_key() -> None:
    problem = conflict("k1")
    assert (problem.status, problem.errors[0].field) == (409, "client_order_id")


# ---- batches


def test_batch_names_each_wrong_field_of_each_order() -> None:
    with pytest.raises(Problem) as caught:
        parse_batch({"orders": [GOOD, GOOD | {"side": "HOLD"}, GOOD | {"quantity": "0", "tif": "X"}]})
    assert {e.field for e in caught.value.errors} == {"orders[1].side", "orders[2].quantity", "orders[2].tif"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([GOOD], "body"), ({}, "body"), ({"orders": GOOD}, "body"), ({"orders": [], "more": 1}, "body"), ({"orders": []}, "orders"),
        ({"orders": [GOOD] * 51}, "orders"), ({"orders": [GOOD, GOOD]}, "orders"), ({"orders": [[]]}, "orders[0].body"),
    ],
)  # fmt: skip
def test_batch_that_is_none_is_refused(body: Any, field: str) -> None:
    with pytest.raises(Problem) as caught:
        parse_batch(body)
    assert field in {e.field for e in caught.value.errors}
