"""One order's states: what may follow what, and when an order is closed."""

from __future__ import annotations

from decimal import Decimal
from itertools import product

import pytest

from engine.errors import IllegalTransition
from engine.events import Kind
from engine.order import FINAL, TRANSITIONS, State, next_state
from tests.unit.book_factory import Ledger

_ALL = [(state, kind, after) for state, row in TRANSITIONS.items() for kind, after in row.items()]


def test_every_state_has_its_line_in_the_table() -> None:
    assert set(TRANSITIONS) == set(State)


def test_whatever_is_not_in_the_table_raises_and_names_state_and_event() -> None:
    for state, kind in product(State, Kind):
        if kind not in TRANSITIONS[state]:
            with pytest.raises(IllegalTransition, match=f"{state}.*{kind}"):
                next_state(state, kind)


@pytest.mark.rule(1)
@pytest.mark.guarantee(4)
def test_nothing_that_was_licensed_can_be_licensed_again_unless_the_sender_took_the_licence_back() -> None:
    into_sending = [(state, kind) for state, kind, after in _ALL if after is State.SENDING]
    into_queued = [(state, kind) for state, kind, after in _ALL if after is State.QUEUED]
    assert into_sending == [(State.QUEUED, Kind.ORDER_LICENSED), (State.IN_DOUBT, Kind.ORDER_REPEATED)]
    assert into_queued == [(State.SENDING, Kind.ORDER_UNLICENSED)]


@pytest.mark.rule(8)
def test_expired_is_reachable_from_queued_only() -> None:
    assert [state for state, _, after in _ALL if after is State.EXPIRED] == [State.QUEUED]


@pytest.mark.guarantee(6)
def test_doubt_arises_only_about_what_was_licensed() -> None:
    assert {state for state, _, after in _ALL if after is State.IN_DOUBT} == {State.SENDING, State.WORKING}


@pytest.mark.guarantee(5)
def test_an_execution_is_accepted_in_every_state() -> None:
    assert all(Kind.EXECUTION in row for row in TRANSITIONS.values())


@pytest.mark.rule(1)
def test_a_final_state_is_left_by_the_brokers_evidence_only() -> None:
    leaving = {kind for state, kind, after in _ALL if state in FINAL and after is not state}
    leaving.discard(Kind.ORDER_MERGED)  # the record of somebody else's order, which an operator calls one of ours
    assert leaving <= {Kind.ORDER_WORKING, Kind.EXECUTION, Kind.ORDER_CANCELLED, Kind.ORDER_REJECTED}
    out_of_filled = {kind for kind, after in TRANSITIONS[State.FILLED].items() if after is not State.FILLED}
    assert out_of_filled == {Kind.ORDER_MERGED}


# ---- closed by its executions


@pytest.fixture
def ledger() -> Ledger:
    """A ledger with a session up."""
    made = Ledger()
    made.session()
    return made


@pytest.mark.rule(27)
def test_order_is_filled_when_its_executions_sum_up_and_not_before(ledger: Ledger) -> None:
    oid = ledger.working()
    ledger.fill(oid, "0001.01", quantity="4")
    assert (ledger.order(oid).state, ledger.order(oid).remaining) == (State.WORKING, 6)
    ledger.fill(oid, "0002.01", quantity="6")
    assert (ledger.order(oid).state, ledger.order(oid).remaining) == (State.FILLED, 0)


@pytest.mark.rule(27)
def test_correction_that_takes_a_part_back_opens_the_order_again(ledger: Ledger) -> None:
    oid = ledger.working()
    ledger.fill(oid, "0001.01")
    ledger.fill(oid, "0001.02", quantity="8")
    assert (ledger.order(oid).state, ledger.order(oid).filled) == (State.WORKING, 8)
    assert oid in ledger.book.open_ids


def test_fill_that_crossed_the_cancel_is_booked_and_a_full_one_closes_the_order_as_filled(ledger: Ledger) -> None:
    oid = ledger.working()
    ledger.add(Kind.ORDER_CANCELLED, oid, reason="cancelled")
    ledger.fill(oid, "0001.01", quantity="4")
    assert (ledger.order(oid).state, ledger.order(oid).filled) == (State.CANCELLED, 4)
    ledger.fill(oid, "0002.01", quantity="6")
    assert ledger.order(oid).state is State.FILLED


@pytest.mark.rule(1)
def test_late_evidence_reopens_what_an_operator_called_dead(ledger: Ledger) -> None:
    oid = ledger.accept(session=1)
    ledger.add(Kind.ORDER_IN_DOUBT, oid, reason="not shown")
    ledger.add(Kind.ORDER_CANCELLED, oid, reason="operator_dead")
    ledger.work(oid)
    assert ledger.order(oid).state is State.WORKING


def test_overfilled_order_has_nothing_remaining_and_a_mean_price(ledger: Ledger) -> None:
    oid = ledger.working()
    assert ledger.order(oid).average_price is None
    ledger.fill(oid, "0001.01", quantity="10", price="100")
    ledger.fill(oid, "0002.01", quantity="10", price="110")
    assert ledger.order(oid).remaining == 0
    assert ledger.order(oid).average_price == Decimal(105)


def test_key_and_contract_of_an_order(ledger: Ledger) -> None:
    oid = ledger.accept("k1")
    assert ledger.order(oid).key == ("local", "k1")
    assert ledger.order(oid).contract_key == ("DU1", "AAPL")
