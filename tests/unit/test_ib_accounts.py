"""Account figures from the rows that IB tells: what is not told is not known, and nothing is made up."""

from __future__ import annotations

from decimal import Decimal

from engine.ib_accounts import facts
from tests.unit.book_factory import NOON


def test_rows_of_several_accounts_become_one_fact_each() -> None:
    rows = [
        ("DU2", "NetLiquidation", "5", "EUR"), ("DU1", "NetLiquidation", "1000000.25", "USD"),
        ("DU1", "TotalCashValue", "-3.5", "USD"), ("DU1", "BuyingPower", "4000000", "USD"),
        ("DU1", "MaintMarginReq", "0", "USD"), ("DU1", "Cushion", "1", ""),
    ]  # fmt: skip
    first, second = facts(rows, NOON)
    assert (first.account, first.currency, first.at) == ("DU1", "USD", NOON)
    assert (first.net_liquidation, first.cash) == (Decimal("1000000.25"), Decimal("-3.5"))
    assert (first.buying_power, first.maintenance_margin) == (Decimal(4000000), Decimal(0))
    assert (second.account, second.currency, second.net_liquidation, second.cash) == ("DU2", "EUR", Decimal(5), None)


def test_what_ib_leaves_open_is_none() -> None:
    for text in ("", "1.7976931348623157E308", "NaN", "Infinity", "n/a"):
        [fact] = facts([("DU1", "NetLiquidation", text, "USD")], NOON)
        assert fact.net_liquidation is None
    assert facts([], NOON) == []
