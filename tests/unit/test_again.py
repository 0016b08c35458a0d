"""R1: when an order in doubt may be sent again under its own order id, and what its log then refuses."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from engine import again
from engine.events import Draft, Kind
from engine.order import State
from engine.trial import Trial
from tests.unit.book_factory import NOON, Ledger, snap

pytestmark = pytest.mark.rule(1)


def doubtful(away: bool = False, next_valid_id: int = 8, **fields: str) -> tuple[Ledger, str]:
    """Order 7 was licensed on session 1 and is absent on session 2; what the gateway said when session 2 was opened."""
    ledger = Ledger()
    ledger.session(1, next_valid_id=6, away=False)
    ledger.working("seen", broker_id=6)
    ledger.add(Kind.ORDER_WORKING, ledger.order(next(iter(ledger.book.orders))).id, perm_id=900, broker_order_id=6)
    oid = ledger.accept("lost", session=1, broker_id=7, symbol="MSFT", **fields)
    ledger.session(2, next_valid_id=next_valid_id, away=away)
    ledger.add(Kind.ORDER_IN_DOUBT, oid, reason="not shown")
    ledger.add(
        Kind.BREAK_OPENED, oid, id="B", kind="in_doubt", symbol="MSFT", account="DU1", holds=True, ours={}, broker={}
    )
    return ledger, oid


def why_not(ledger: Ledger, oid: str) -> str:
    return again.why_not(ledger.book, ledger.order(oid), NOON) or ""


def repeat(ledger: Ledger, oid: str) -> list[Draft]:
    word = {"resolution": "sent_again", "reason": "", "by": "me"}
    return again.repeated(ledger.book, ledger.order(oid), ledger.book.breaks["B"], word, ("op", "c-1"), NOON)


@pytest.mark.parametrize("next_valid_id", [7, 8])
def test_the_highest_id_of_a_gateway_that_was_there_all_the_time_is_repeated_under_a_new_licence(
    next_valid_id: int,
) -> None:
    """7: it was never taken; 8: the gateway has taken its id, and would take the repetition for a modification."""
    ledger, oid = doubtful(next_valid_id=next_valid_id)
    assert why_not(ledger, oid) == ""
    ledger.write(*repeat(ledger, oid))
    order = ledger.order(oid)
    assert (order.state, order.session, order.broker_order_id, order.licence_epoch) == (State.SENDING, 2, 7, 5)
    assert (order.repeats, ledger.book.order_id_floor, list(ledger.book.open_breaks)) == (1, 8, [])
    assert [(e.kind, e.subject, e.correlation_id) for e in ledger.log[-2:]] == [
        ("order_repeated", "op", "c-1"), ("break_resolved", "op", "c-1"),
    ]  # fmt: skip


def higher_id(ledger: Ledger, oid: str) -> None:
    ledger.accept("later", session=2)


def next_session_found_it_away(ledger: Ledger, oid: str) -> None:
    ledger.session(3, next_valid_id=8, away=True)


def asked_to_cancel(ledger: Ledger, oid: str) -> None:
    ledger.add(Kind.CANCEL_REQUESTED, oid)


def repeated_already(ledger: Ledger, oid: str) -> None:
    ledger.write(*repeat(ledger, oid))
    ledger.add(Kind.ORDER_IN_DOUBT, oid, reason="again")


def dead(ledger: Ledger, oid: str) -> None:
    ledger.add(Kind.ORDER_CANCELLED, oid, reason="operator_dead")


@pytest.mark.parametrize(
    ("meanwhile", "sentence"),
    [
        (higher_id, "Order ids above 7 were used"),
        (next_session_found_it_away, "may have restarted"),
        (asked_to_cancel, "asked to cancel"),
        (repeated_already, "repeated once already"),
        (dead, "is CANCELLED"),
    ],
)
def test_what_happened_since_stands_in_its_way(meanwhile: Callable[[Ledger, str], None], sentence: str) -> None:
    ledger, oid = doubtful()
    meanwhile(ledger, oid)
    assert sentence in why_not(ledger, oid)


@pytest.mark.parametrize(
    ("away", "next_valid_id", "sentence"),
    [
        (True, 8, "may have restarted"),
        (False, 6, "may have restarted"),  # it had used 6
        (False, 9, "Order ids above 7 were used"),
    ],
)
def test_what_the_gateway_showed_at_the_next_admission_stands_in_its_way(
    away: bool, next_valid_id: int, sentence: str
) -> None:
    assert sentence in why_not(*doubtful(away, next_valid_id))


def test_a_session_of_a_log_that_does_not_say_whether_the_gateway_was_away_counts_as_a_restart() -> None:
    ledger, oid = doubtful()
    ledger.add(Kind.SESSION_OPENED, session=3, next_valid_id=8, accounts=[])
    assert "may have restarted" in why_not(ledger, oid)


def test_an_order_whose_time_has_passed_is_not_repeated() -> None:
    ledger, oid = doubtful(valid_until=(NOON - timedelta(seconds=1)).isoformat())
    assert "valid_until" in why_not(ledger, oid)


def test_the_log_itself_refuses_a_repetition_below_a_higher_id_also_in_the_same_group() -> None:
    ledger, oid = doubtful()
    drafts = repeat(ledger, oid)
    trial = Trial(ledger.book)
    other = Draft(Kind.ORDER_LICENSED, {"session": 2, "broker_order_id": 8}, NOON, ledger.accept("waits", symbol="IBM"))
    assert trial.refuses([other]) is None
    assert "above 7" in (trial.refuses(drafts) or "")
    ledger.write(other)
    assert "above 7" in (Trial(ledger.book).refuses(drafts) or "")


def test_a_repeated_licence_is_never_taken_back_into_the_queue() -> None:
    """What its first licence wrote may still be inside the gateway."""
    ledger, oid = doubtful()
    ledger.write(*repeat(ledger, oid))
    unlicensed = Draft(Kind.ORDER_UNLICENSED, {"reason": "103"}, NOON, oid)
    assert "may have been written" in (Trial(ledger.book).refuses([unlicensed]) or "")
    ledger.write(*again.in_doubt_still(ledger.book, ledger.order(oid), "103: Duplicate order id", NOON))
    assert ledger.order(oid).state is State.IN_DOUBT
    [found] = ledger.book.open_breaks.values()
    assert (found.kind, found.order_id, found.broker["said"]) == ("in_doubt", oid, "103: Duplicate order id")


def test_another_order_id_is_no_repetition() -> None:
    ledger, oid = doubtful()
    wrong = Draft(Kind.ORDER_REPEATED, {"session": 2, "broker_order_id": 8}, NOON, oid)
    assert "has the broker order id 7" in (Trial(ledger.book).refuses([wrong]) or "")


def test_repeated_order_is_judged_anew_when_its_session_ends() -> None:
    ledger, oid = doubtful()
    ledger.write(*repeat(ledger, oid))
    assert ledger.plan(snap(session=2)).drafts == ()
    ledger.repair(snap(session=3))
    assert ledger.order(oid).state is State.IN_DOUBT


@pytest.mark.parametrize("filled", [False, True])
def test_a_part_of_a_bracket_is_not_repeated_before_its_parent_has_traded(filled: bool) -> None:
    """Its last member says that the whole is to be transmitted: repeated alone it would put half of it into the market."""
    ledger = Ledger()
    ledger.session(1, next_valid_id=1, away=False)
    parent = ledger.working("p", perm_id=900)
    child = ledger.accept("c", session=1, broker_id=2, side="SELL", extra={"parent": parent})
    ledger.session(2, next_valid_id=3, away=False)
    ledger.add(Kind.ORDER_IN_DOUBT, child, reason="not shown")
    if filled:
        ledger.fill(parent)
    assert ("hangs on one that has not traded" in why_not(ledger, child)) is not filled
    assert (why_not(ledger, child) == "") is filled


def test_a_parent_is_not_repeated_without_its_children() -> None:
    ledger = Ledger()
    ledger.session(1, next_valid_id=1, away=False)
    parent = ledger.accept("p", session=1, broker_id=1)
    ledger.accept("c", side="SELL", extra={"parent": parent})
    ledger.session(2, next_valid_id=2, away=False)
    ledger.add(Kind.ORDER_IN_DOUBT, parent, reason="not shown")
    assert "hang on order" in why_not(ledger, parent)
