"""Executions by their root, and positions as their sum."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.position import Position, execution_root
from tests.unit.book_factory import ACCOUNT, CON_IDS, Ledger

trades = st.lists(
    st.tuples(st.integers(-100, 100).filter(bool).map(Decimal), st.decimals("0.01", "500", places=2, allow_nan=False)),
    max_size=12,
)


@pytest.mark.rule(27)
@pytest.mark.parametrize(
    ("exec_id", "root", "revision"),
    [
        ("0000e0d5.6556a1b3.01.01", "0000e0d5.6556a1b3.01", 1),
        ("0000e0d5.6556a1b3.01.02", "0000e0d5.6556a1b3.01", 2),
        ("0001.10", "0001", 10),
        ("F-12345", "F-12345", 0),
        ("abc.x", "abc.x", 0),
        ("plain", "plain", 0),
        ("", "", 0),
    ],
)
def test_root_is_what_stands_before_the_last_number(exec_id: str, root: str, revision: int) -> None:
    assert execution_root(exec_id) == (root, revision)


def test_root_of_an_id_with_digits_of_another_script_is_the_id() -> None:
    assert execution_root("0001.²") == ("0001.²", 0)


@pytest.mark.guarantee(5)
@given(trades)
def test_position_is_the_sum_of_its_executions(done: list[tuple[Decimal, Decimal]]) -> None:
    position = Position(ACCOUNT, 1, "AAPL")
    for signed, price in done:
        position.add(signed, price)
    assert position.quantity == sum(signed for signed, _ in done)
    assert (position.average_cost == 0) == (position.quantity == 0)


@given(trades)
def test_average_cost_lies_between_the_prices_paid(done: list[tuple[Decimal, Decimal]]) -> None:
    position = Position(ACCOUNT, 1, "AAPL")
    for signed, price in done:
        position.add(signed, price)
    if position.quantity:
        prices = [price for _, price in done]
        assert min(prices) - Decimal("1e-20") <= position.average_cost <= max(prices) + Decimal("1e-20")


@pytest.mark.parametrize(
    ("done", "quantity", "cost"),
    [
        ([(10, 100), (10, 110)], 20, "105"),  # it grows: the cost moves
        ([(10, 100), (-4, 130)], 6, "100"),  # it shrinks: the cost stays
        ([(10, 100), (-10, 130)], 0, "0"),
        ([(10, 100), (-15, 130)], -5, "130"),  # it turns: what is left was sold at 130
        ([(-10, 100), (-10, 90)], -20, "95"),
    ],
)
def test_average_cost_moves_when_a_position_grows_and_stays_when_it_shrinks(
    done: list[tuple[int, int]], quantity: int, cost: str
) -> None:
    position = Position(ACCOUNT, 1, "AAPL")
    for signed, price in done:
        position.add(Decimal(signed), Decimal(price))
    assert (position.quantity, position.average_cost) == (quantity, Decimal(cost))


def _corrected(first: str, second: str) -> Position:
    ledger = Ledger()
    ledger.fill(None, "0001.01", price="100")
    ledger.fill(None, "0002.01", price=first)
    if second != first:
        ledger.fill(None, "0002.02", price=second)
    return ledger.book.positions[ACCOUNT, CON_IDS["AAPL"]]


@pytest.mark.guarantee(5)
def test_correction_leaves_the_quantity_that_the_corrected_execution_alone_would_have_given() -> None:
    assert _corrected("110", "112").quantity == _corrected("112", "112").quantity == 20


def test_correction_leaves_the_cost_that_the_corrected_execution_alone_would_have_given() -> None:
    assert _corrected("110", "112").average_cost == _corrected("112", "112").average_cost == 106
