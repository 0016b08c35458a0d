"""A snapshot knows what it does not show."""

from __future__ import annotations

import pytest

from engine.events import Kind
from reconcile.snapshot import fill_gains, unbooked
from tests.unit.book_factory import ME, Ledger, done, reference, shown, snap, traded


@pytest.fixture
def ledger() -> Ledger:
    """A ledger with session 1 over and session 2 up."""
    made = Ledger()
    made.session(1)
    made.session(2, next_valid_id=50)
    return made


@pytest.mark.guarantee(6)
def test_a_part_that_did_not_come_makes_the_snapshot_incomplete() -> None:
    snapshot = snap(missing=["executions"])
    assert not snapshot.complete
    assert snapshot.came("open_orders", "positions")
    assert not snapshot.came("positions", "executions")
    assert snap().complete


@pytest.mark.rule(23)
def test_working_order_that_no_part_shows_makes_the_snapshot_lack_something(ledger: Ledger) -> None:
    oid = ledger.working()
    assert snap().lacks(ledger.book) == [oid]
    assert snap(traded(oid, quantity=4)).lacks(ledger.book) == [oid]  # it traded; that does not say where the rest is


@pytest.mark.rule(23)
def test_order_that_is_open_or_completed_or_filled_by_executions_is_not_lacking(ledger: Ledger) -> None:
    oid = ledger.working()
    for fact in (shown(oid), done(oid, "Cancelled"), shown(oid, reference=""), traded(oid), shown(oid, perm_id=999)):
        assert snap(fact).lacks(ledger.book) == []


@pytest.mark.rule(23)
def test_order_filled_partly_before_and_partly_in_the_snapshot_is_not_lacking(ledger: Ledger) -> None:
    oid = ledger.working()
    ledger.fill(oid, "0001.01", quantity="4")
    assert snap(traded(oid, "0001.01", 4)).lacks(ledger.book) == [oid]
    assert snap(traded(oid, "0001.01", 4), traded(oid, "0002.01", 6)).lacks(ledger.book) == []


def test_orders_whose_absence_says_nothing_are_not_lacking(ledger: Ledger) -> None:
    ledger.accept("queued")
    ledger.accept("sending", session=1)
    ledger.working("never shown under a permId", perm_id=None)
    ledger.repair(snap(shown(perm_id=77)))  # an external one
    began = ledger.book.seq + 1
    ledger.working("moved meanwhile", perm_id=901)
    assert snap(first_unjudged_seq=began).lacks(ledger.book) == []


def test_order_that_vanished_does_not_count_again_until_it_was_heard_of_since(ledger: Ledger) -> None:
    oid = ledger.working()
    ledger.repair(snap())
    assert snap().lacks(ledger.book) == []
    [found] = ledger.book.open_breaks
    ledger.add(Kind.BREAK_RESOLVED, oid, id=found, resolution="seen in the other window")
    assert snap().lacks(ledger.book) == []
    ledger.work(oid)
    assert snap().lacks(ledger.book) == [oid]


@pytest.mark.rule(3)
def test_only_orders_of_dead_sessions_that_did_not_move_meanwhile_are_judged(ledger: Ledger) -> None:
    dead, present = ledger.accept("dead", session=1), ledger.accept("present", session=2)
    began = ledger.book.seq + 1
    late = ledger.accept("late", session=1)
    snapshot = snap(session=2, first_unjudged_seq=began)
    assert [snapshot.judges(ledger.order(oid)) for oid in (dead, present, late)] == [True, False, False]


@pytest.mark.rule(18)
def test_highest_epoch_is_that_of_our_own_references_only() -> None:
    ours, other = reference("A" * 16, epoch=9), reference("B" * 16, epoch=11, tag="ZZZZ")
    assert snap(shown(reference=ours), shown(reference=other), shown(reference="by hand")).highest_epoch(ME) == 9
    assert snap().highest_epoch(ME) == 0


@pytest.mark.guarantee(5)
def test_unbooked_is_the_highest_revision_of_what_the_ledger_has_not(ledger: Ledger) -> None:
    oid = ledger.working()
    ledger.fill(oid, "0001.01", quantity="4")
    facts = [traded(oid, "0001.03", 2), traded(oid, "0001.02", 3), traded(oid, "0002.01", 6), traded(oid, "0001.01", 4)]
    found = unbooked(ledger.book, facts)
    assert [(fact.exec_id, known and known.exec_id) for fact, known in found] == [
        ("0001.03", "0001.01"),
        ("0002.01", None),
    ]
    assert fill_gains(ledger.book, facts) == {900: 2 - 4 + 6}


def test_lower_revision_than_the_booked_one_is_not_unbooked(ledger: Ledger) -> None:
    oid = ledger.working()
    ledger.fill(oid, "0001.02", quantity="3")
    assert unbooked(ledger.book, [traded(oid, "0001.01", 4), traded(oid, "0001.02", 3)]) == []
