"""R1: an order in doubt takes one of the broker's orders as its own, or why not."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from engine.adopt import adopted as adopted_by_fold
from engine.events import Draft, Kind, place
from engine.order import State
from engine.reference import order_id
from engine.trial import Trial
from reconcile.adopt import Adoption, CannotAdopt, adoption
from reconcile.snapshot import Snapshot
from tests.unit.book_factory import ACCOUNT, CLIENT, ME, NOON, Ledger, done, holds, reference, shown, snap, traded

pytestmark = pytest.mark.rule(1)
EXTERNAL = order_id("desk1", "external", "77")


@pytest.fixture
def ledger() -> Ledger:
    """A ledger with an order in doubt, `lost`, of session 1; session 2 is present."""
    made = Ledger()
    made.session(1)
    made.accept("lost", session=1)
    made.session(2, next_valid_id=50)
    made.repair(snap())
    return made


@pytest.fixture
def lost() -> str:
    return order_id("desk1", "local", "lost")


def adopt(ledger: Ledger, lost: str, snapshot: Snapshot, perm_id: int = 77) -> list[Draft]:
    """What it writes; the group passes the trial and is folded."""
    drafts = adoption(ledger.book, snapshot, ME, Adoption(ledger.order(lost), perm_id, "op", "c-1", NOON))
    assert all((draft.subject, draft.correlation_id) == ("op", "c-1") for draft in drafts)
    ledger.write(*drafts)
    return drafts


def kinds(drafts: list[Draft]) -> list[str]:
    return [str(draft.kind) for draft in drafts]


def test_open_order_that_was_recorded_as_somebody_elses_becomes_ours_and_its_record_ends(
    ledger: Ledger, lost: str
) -> None:
    there = snap(shown(perm_id=77))
    ledger.repair(there)
    assert kinds(adopt(ledger, lost, there)) == ["order_merged", "order_adopted"]
    order, record = ledger.order(lost), ledger.order(EXTERNAL)
    assert (order.state, order.perm_id, ledger.book.by_perm_id[77]) == (State.WORKING, 77, lost)
    assert (record.state, record.perm_id, EXTERNAL in ledger.book.open_ids) == (State.CANCELLED, None, False)
    assert "says op" in (record.reason or "")
    left = [ruling.row.name for ruling in ledger.plan(there).rulings]
    assert left == ["break_answered"]  # which whoever asked resolves in the same group


@pytest.mark.guarantee(5)
@pytest.mark.parametrize("whole", [True, False])
def test_executions_booked_on_that_record_are_moved_and_the_position_stays(
    ledger: Ledger, lost: str, whole: bool
) -> None:
    ledger.repair(snap(shown(perm_id=77)))
    some = 10 if whole else 4
    there = snap(
        *([] if whole else [shown(perm_id=77)]), traded(exec_id="0009.01", quantity=some, perm_id=77), holds(some)
    )
    ledger.repair(there)
    before = {where: p.quantity for where, p in ledger.book.positions.items()}
    adopt(ledger, lost, there)
    order, record = ledger.order(lost), ledger.order(EXTERNAL)
    assert (order.filled, order.state) == (some, State.FILLED if whole else State.WORKING)
    assert (order.average_price, record.filled) == (Decimal("190.50"), 0)
    assert [e.order_id for e in ledger.book.executions.values()] == [lost]
    assert {where: p.quantity for where, p in ledger.book.positions.items()} == before
    folded = Ledger()
    for event in ledger.log:
        folded.book.apply(event)
    assert folded.book.digest == ledger.book.digest


def test_correction_of_a_moved_execution_goes_to_the_order_that_has_it_now(ledger: Ledger, lost: str) -> None:
    ledger.repair(snap(shown(perm_id=77)))
    there = snap(shown(perm_id=77), traded(exec_id="0009.01", quantity=4, perm_id=77), holds(4))
    ledger.repair(there)
    adopt(ledger, lost, there)
    ledger.repair(snap(shown(perm_id=77), traded(exec_id="0009.02", quantity=6, perm_id=77), holds(6)))
    assert (ledger.order(lost).filled, ledger.order(EXTERNAL).filled) == (6, 0)


def test_order_of_which_only_executions_are_shown_is_adopted_by_them(ledger: Ledger, lost: str) -> None:
    there = snap(traded(exec_id="0009.01", perm_id=77), holds(10))
    ledger.repair(there)
    assert [e.order_id for e in ledger.book.executions.values()] == [None]
    assert kinds(adopt(ledger, lost, there)) == ["order_adopted"]
    assert (ledger.order(lost).state, ledger.order(lost).filled) == (State.FILLED, 10)


def test_execution_that_is_not_booked_yet_comes_along(ledger: Ledger, lost: str) -> None:
    there = snap(done(perm_id=77), traded(exec_id="0009.01", perm_id=77), holds(10))
    assert kinds(adopt(ledger, lost, there)) == ["order_adopted", "execution"]
    assert ledger.order(lost).state is State.FILLED


@pytest.mark.parametrize(
    ("status", "state"), [("Cancelled", State.CANCELLED), ("Inactive", State.REJECTED), ("Filled", State.WORKING)]
)
def test_completed_order_ends_as_the_broker_says_and_a_filled_one_by_its_executions_only(
    ledger: Ledger, lost: str, status: str, state: State
) -> None:
    adopt(ledger, lost, snap(done(status=status, perm_id=77)))
    assert ledger.order(lost).state is state


def test_its_order_id_is_taken_where_it_is_of_our_own_number_space_only(ledger: Ledger, lost: str) -> None:
    adopt(ledger, lost, snap(shown(perm_id=77, client_id=CLIENT, broker_order_id=60)))
    assert (ledger.order(lost).broker_order_id, ledger.book.order_id_floor) == (60, 61)


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ([], "shows no order, open or completed, and no execution with permId 77"),
        ([shown(perm_id=77, account="DU2")], "another account DU2, not DU1"),
        ([shown(perm_id=77, side="SELL")], "another side SELL, not BUY"),
        ([shown(perm_id=77, symbol="IBM")], "another symbol IBM, not AAPL"),
        ([shown(perm_id=77, order_type="MKT")], "another order_type MKT, not LMT"),
        ([shown(perm_id=77, quantity=Decimal(9))], "is of 9, order"),
        ([done(perm_id=77, filled=Decimal(11))], "is of 11, order"),
        ([traded(perm_id=77, quantity=11)], "traded 11, order"),
        ([shown("NOSUCHORDERHERE1", perm_id=77)], "belongs to order NOSUCHORDERHERE1"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_sentence(
    ledger: Ledger, lost: str, facts: list[Any], sentence: str
) -> None:
    seq = ledger.book.seq
    with pytest.raises(CannotAdopt, match=sentence):
        adopt(ledger, lost, snap(*facts))
    assert ledger.book.seq == seq


def test_another_order_of_ours_keeps_its_own(ledger: Ledger, lost: str) -> None:
    other = ledger.working("other", session=2, perm_id=77)
    with pytest.raises(CannotAdopt, match=f"belongs to order {other}"):
        adopt(ledger, lost, snap(shown(other, perm_id=77)))


def test_snapshot_without_a_part_is_no_ground(ledger: Ledger, lost: str) -> None:
    with pytest.raises(CannotAdopt, match="not complete"):
        adopt(ledger, lost, snap(shown(perm_id=77), missing=["executions"]))


def test_the_log_refuses_an_adoption_of_what_is_in_doubt_no_more(ledger: Ledger, lost: str) -> None:
    there = snap(shown(perm_id=77))
    drafts = adoption(ledger.book, there, ME, Adoption(ledger.order(lost), 77, "op", "c", NOON))
    ledger.work(lost, 78)
    assert "WORKING" in (Trial(ledger.book).refuses(drafts) or "")


def test_the_log_refuses_executions_of_another_order_of_ours_and_a_merger_of_one(ledger: Ledger, lost: str) -> None:
    other = ledger.working("other", session=2, perm_id=77)
    ledger.fill(other, "0009.01", perm_id=77, quantity="4")
    taken = {"perm_id": 77, "executions": [[ACCOUNT, "0009"]]}
    adopted = Draft(Kind.ORDER_ADOPTED, taken, NOON, lost)
    assert f"belongs to order {other}" in (Trial(ledger.book).refuses([adopted]) or "")
    with pytest.raises(ValueError, match=f"execution 0009.01 belongs to order {other}"):
        adopted_by_fold(ledger.book, place(adopted, ledger.book.seq + 1, 5), taken)
    merged = Draft(Kind.ORDER_MERGED, {"into": lost}, NOON, other)
    assert "one of ours" in (Trial(ledger.book).refuses([merged]) or "")
    unknown = Draft(Kind.ORDER_ADOPTED, {"perm_id": 78, "executions": [[ACCOUNT, "0010"]]}, NOON, lost)
    assert "no execution 0010" in (Trial(ledger.book).refuses([unknown]) or "")


def test_the_lost_one_that_surfaces_after_an_adoption_is_a_twin(ledger: Ledger, lost: str) -> None:
    ledger.repair(snap(shown(perm_id=77)))
    adopt(ledger, lost, snap(shown(perm_id=77)))
    ledger.repair(
        snap(shown(perm_id=77), shown(perm_id=88, reference=reference(lost), client_id=CLIENT, broker_order_id=1))
    )
    assert "twin" in [found.kind for found in ledger.book.open_breaks.values()]


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("together", [True, False])
def test_the_log_refuses_that_two_orders_in_doubt_become_one_order_of_the_broker(
    ledger: Ledger, lost: str, recorded: bool, together: bool
) -> None:
    """Two operators decide on the same book; `together`: in one statement."""
    other = ledger.accept("other", session=2)
    ledger.add(Kind.ORDER_IN_DOUBT, other, reason="not shown")
    there = snap(shown(perm_id=77))
    if recorded:
        ledger.repair(there)
    first, second = (
        adoption(ledger.book, there, ME, Adoption(ledger.order(oid), 77, "op", "c", NOON)) for oid in (lost, other)
    )
    trial = Trial(ledger.book)
    if together:
        assert trial.refuses(first) is None
    else:
        ledger.write(*first)
        trial = Trial(ledger.book)
    assert f"permId 77 belongs to order {lost}" in (
        trial.refuses([d for d in second if d.kind != Kind.ORDER_MERGED]) or ""
    )
    assert trial.refuses(second) is not None
